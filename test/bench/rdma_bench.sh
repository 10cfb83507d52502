#!/bin/bash
# usage: rdma_bench.sh BUILD
#
# In a rig: links over RDMA beside links over TCP and a bare socket on the same wire, and what
# ib_write_bw (package perftest) and ib_write_lat make of the devices, all in one run.  Soft-RoCE on
# emulated processors: ratios say something, times do not.
set -euo pipefail
build=$1
rig_tests=$(dirname "$(readlink -f "$0")")/../rig

ip link add roce-a type veth peer name roce-b
ip address add 10.78.0.1/24 dev roce-a
ip address add 10.78.0.2/24 dev roce-b
for end in roce-a roce-b; do
    ip link set "$end" up
done
"$rig_tests/one_namespace.sh" roce-a 10.78.0.1 roce-b 10.78.0.2
"$rig_tests/soft_roce.sh" roce-a
"$rig_tests/soft_roce.sh" roce-b

# perftest TOOL OPTION...: the client's last line of figures.
perftest() {
    local tool=$1 server status=0
    shift
    "$tool" --rdma_cm --ib-dev=rxe-roce-a "$@" >/dev/null &
    server=$!
    # Until the server listens.
    until "$tool" --rdma_cm --ib-dev=rxe-roce-b "$@" 10.78.0.1 >/tmp/perftest 2>&1; do
        kill -0 "$server" || status=1
        [ "$status" = 0 ] || { cat /tmp/perftest && exit 1; }
        sleep 0.2
    done
    wait "$server"
    awk 'NF >= 4 && $1 ~ /^[0-9]+$/ { line = $0 } END { print line }' /tmp/perftest
}

for size in 65536 1048576; do
    printf 'ib_write_bw: bytes, iterations, peak and average MiB/s, messages: %s\n' \
        "$(perftest ib_write_bw --size=$size --iters=$((33554432 / size)))"
done
printf 'ib_write_lat: bytes, iterations, min, max, typical, average us, ...: %s\n' \
    "$(perftest ib_write_lat --size=88 --iters=500)"
"$build/test/bench/bench-link" --rdma 10.78.0.1
printf 'ib_write_bw again: %s\n' "$(perftest ib_write_bw --size=1048576 --iters=32)"
