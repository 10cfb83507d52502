#!/bin/bash
# usage: rdma_failover.sh BUILD
#
# A Linux guest with redis is protected over RDMA between two hosts, and the primary's host loses its
# power in mid-stream.  Two rigs, soft-RoCE on the network between them; the guests' network reaches
# from one to the other by VXLAN, and the client lives on the host that survives.  Passed if the same
# TCP connection goes on and no acknowledged increment is lost (test/support/incr_client.c).
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
scripts=$here/../../scripts
# shellcheck source=../../scripts/lib.sh
. "$scripts/lib.sh"
build=$1
UNLIKE_HOSTS=75

if [ -z "${KEMARI_RIG-}" ]; then
    mapfile -t image < <("$scripts/guest-image" --with redis)
    [ "${#image[@]}" = 2 ] || die "the guest could not be prepared"
    shared=$(mktemp -d)
    trap 'rm -rf "$shared"' EXIT
    "$build/app/kemarictl" keygen secret "$shared/secret" >/dev/null
    # Two emulated hosts may measure their clocks further apart than a guest's TSC can be moved
    # without scaling, which emulation lacks: then these are no hosts for a pair, and others are made.
    for _ in 1 2 3 4; do
        status=0
        "$scripts/rig" --two --memory 2048 --timeout 280 -- \
            "$0" "$build" "${image[@]}" "$shared/secret" || status=$?
        [ "$status" = "$UNLIKE_HOSTS" ] || exit "$status"
    done
    die "no two emulated hosts with clocks alike"
fi
kernel=$2 initrd=$3 secret=$4

GUEST=10.88.0.10
case $KEMARI_RIG_HOST in
a) role=primary number=1 ;;
b) role=secondary number=2 ;;
esac

fail() {
    printf 'FAILED: %s\n' "$1"
    tail -n 30 "$work"/*.log
    exit 1
}

# wait_for SECONDS WHAT COMMAND...
wait_for() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        ! grep -q "TSC runs at .* can't be scaled" "$work/kemarid.log" || exit "$UNLIKE_HOSTS"
        [ "$SECONDS" -lt "$deadline" ] || fail "waited too long for $what"
        sleep 0.2
    done
}

work=$(mktemp -d)
install -m 600 "$secret" "$work/secret"
"$here/soft_roce.sh" eth0
modprobe vxlan
ip -batch - <<END
tuntap add dev tap0 mode tap vnet_hdr
link add dev br0 type bridge forward_delay 0 mcast_snooping 0
link add dev lan0 type vxlan id 1 remote $KEMARI_RIG_PEER dstport 4789 dev eth0
link set dev lan0 master br0 up
link set dev tap0 master br0 up
link set dev br0 up
address add 10.88.0.$number/24 dev br0
END
cat >"$work/pair.ini" <<END
[vm]
name = pair
role = $role
state-dir = $work
run-dir = $work

[machine]
memory = 256M
kernel = $kernel
initrd = $initrd
cmdline = console=ttyS0 quiet panic=-1 kemari.run=redis kemari.ip=$GUEST/24
net.0 = tap0
console-log = $work/console

[replication]
listen = rdma://$KEMARI_RIG_ADDRESS:7000
peer = rdma://$KEMARI_RIG_PEER:7000

[heartbeat]
secret-file = $work/secret
path.0 = $KEMARI_RIG_ADDRESS:7001,$KEMARI_RIG_PEER:7001
interval = 100ms
multiplier = 10

[arbiter]
type = none
END
touch "$work/console"
"$build/app/kemarid" --config "$work/pair.ini" >"$work/kemarid.log" 2>&1 &

status() {
    "$build/app/kemarictl" --socket "$work/pair.sock" status --json
}
says() {
    status | grep -q "$1"
}

if [ "$role" = primary ]; then
    # It ends with the power.
    wait_for 150 "the pair to become protected" says '"protected": *true'
    says '"transport": *"rdma"' || fail "the link is not RDMA"
    echo "protected over RDMA"
    cat "$work/kemarid.log"
    wait
    fail "the primary ended by itself"
fi
wait_for 200 "redis in the guest" sh -c "busybox nc -w 1 $GUEST 6379 </dev/null"
"$build/test/incr-client" --silence 120 --log "$work/replies" "$GUEST" 6379 >"$work/client.log" 2>&1 &
client=$!
# wait_for_replies COUNT: so many more than there are now.
wait_for_replies() {
    local wanted=$(($(wc -l <"$work/replies") + $1))
    wait_for 120 "$1 replies" sh -c "[ \$(wc -l <$work/replies) -ge $wanted ]"
}
wait_for 30 "the client's log" test -e "$work/replies"
wait_for_replies 50
rig-power-off a
wait_for 60 "a takeover" says '"happened": *true'
wait_for_replies 50
kill -TERM "$client"
wait "$client" || fail "a promise was broken"
cat "$work/client.log"
echo "passed"
