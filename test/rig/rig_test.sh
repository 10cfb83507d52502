#!/bin/bash
# usage: rig_test.sh BUILD
#
# scripts/rig keeps its word: output byte for byte, exit status, files out, power failure, no leftovers.
set -euo pipefail
rig=$(dirname "$(readlink -f "$0")")/../../scripts/rig

failures=0
# check WHAT EXPECTED ACTUAL
check() {
    if [ "$2" = "$3" ]; then
        printf 'ok: %s\n' "$1"
    else
        printf 'FAILED: %s: expected "%s", got "%s"\n' "$1" "$2" "$3"
        failures=$((failures + 1))
    fi
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/out"

# Everything one boot can show.  The bytes include the ones terminals and shells like to change.
# shellcheck disable=SC2016 # expanded inside
inner='
    head -c 2000000 /dev/urandom >"$OUT/random"
    cat "$OUT/random"
    printf "to stderr\n" >/dev/stderr
    test "$PWD" = "$EXPECTED_PWD" && test -c /dev/kvm && test -c /dev/net/tun && : >"$OUT/facts"
    modprobe rdma_rxe && : >"$OUT/modprobe"
    : >"$EXPECTED_PWD/leaks"
    ip link add v0 type veth peer name v1 && tc qdisc add dev v0 root netem delay 1ms && : >"$OUT/netem"
    sleep 1000 &
    exit 42'
status=0
(cd "$work" && OUT=$work/out EXPECTED_PWD=$work "$rig" --env OUT --env EXPECTED_PWD --out out \
    sh -c "$inner" >stdout 2>stderr) || status=$?
check "exit status" 42 "$status"
check "stdout, byte for byte" "$(sha256sum <"$work/out/random")" "$(sha256sum <"$work/stdout")"
check "stderr" "to stderr" "$(cat "$work/stderr")"
check "current directory, kvm and tun" yes "$([ -e "$work/out/facts" ] && echo yes)"
check "modprobe of any module" yes "$([ -e "$work/out/modprobe" ] && echo yes)"
check "veth and netem" yes "$([ -e "$work/out/netem" ] && echo yes)"
check "writes stay inside" no "$([ -e "$work/leaks" ] && echo yes || echo no)"

# Two hosts: they reach each other, and b survives the power failure of a.
status=0
# shellcheck disable=SC2016
"$rig" --two --a '
    echo "$KEMARI_RIG_HOST up"
    while :; do busybox nc -l -p 9999 </dev/null >/dev/null; done' --b '
    until busybox nc -w 1 "$KEMARI_RIG_PEER" 9999 </dev/null >/dev/null 2>&1; do :; done
    rig-power-off a
    ! busybox ping -c 2 -W 1 "$KEMARI_RIG_PEER" >/dev/null || exit 4
    echo "$KEMARI_RIG_HOST alone"; exit 5' >"$work/two" 2>&1 || status=$?
check "two hosts: exit status of the survivor" 5 "$status"
check "two hosts: output" "a: a up|b: b alone" "$(sort "$work/two" | paste -sd '|')"

status=0
"$rig" --attempts 2 sh -c 'echo c >/proc/sysrq-trigger; sleep 100' 2>"$work/panic" || status=$?
check "kernel panic: exit status" 125 "$status"
check "kernel panic: started over" 1 "$(grep -c '^rig: a: .*Kernel panic.* attempt 2 of 2$' "$work/panic")"
check "kernel panic: reported" 2 "$(grep -c '^rig: a: .*Kernel panic' "$work/panic")"

# Killed without a chance to clean up, in the middle of the boot: QEMU must go with it.
"$rig" --verbose sleep 1000 >"$work/killed" 2>&1 &
pid=$!
for _ in $(seq 600); do
    qemu=$(pgrep -P "$pid" || true)
    [ -z "$qemu" ] || [ "$(cat "/proc/$qemu/comm" 2>/dev/null)" != qemu-system-x86 ] || break
    sleep 0.1
done
kill -KILL "$pid"
for _ in $(seq 100); do
    [ -e "/proc/${qemu:-none}" ] || break
    sleep 0.1
done
check "kill -9 leaves no QEMU" no "$([ -e "/proc/${qemu:-self}" ] && echo yes || echo no)"

[ "$failures" = 0 ]
