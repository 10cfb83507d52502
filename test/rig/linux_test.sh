#!/bin/bash
# usage: linux_test.sh BUILD cloud|full|carry|reboot
#
# Our machine runs stock Debian kernels.  Boots the guest of scripts/guest-image in test/kvm/boot_linux.c
# and compares what the guest says about its machine with what we built.
#
#   cloud   linux-image-cloud-amd64, 1 and 8 vCPUs
#   full    linux-image-amd64, 2 vCPUs, memory on both sides of the hole below 4 GiB
#   carry   a guest that is carried into a new machine again and again
#   reboot  reset in place, then power-off
set -euo pipefail
scripts=$(dirname "$(readlink -f "$0")")/../../scripts
# shellcheck source=../../scripts/lib.sh
. "$scripts/lib.sh"
build=$1 what=$2

if [ $# = 2 ]; then
    # Outside: prepare here, where it is fast, and go where Linux boots.
    kernel=cloud-amd64
    [ "$what" != full ] || kernel=amd64
    mapfile -t image < <("$scripts/guest-image" --kernel "$kernel")
    [ "${#image[@]}" = 2 ] || die "the guest could not be prepared"
    if boots_linux "$build" >/dev/null; then
        exec "$0" "$build" "$what" "${image[@]}"
    fi
    exec "$scripts/rig" --timeout 280 -- "$0" "$build" "$what" "${image[@]}"
fi
kernel=$3 initrd=$4
# Where KVM and its kernel differ about the TSC by anything at all, a guest's timers must come all the same.
[ -z "${KEMARI_RIG-}" ] || echo 0 >/sys/module/kvm/parameters/tsc_tolerance_ppm

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

# boot MODE ARGUMENT...: boots with a 16 MiB disk, the console to $work/console.
boot() {
    local status=0 mode=$1
    shift
    truncate -s 16M "$work/disk"
    printf '== %s %s\n' "$mode" "$*"
    "$build/test/kvm/boot-linux" --kernel "$kernel" --initrd "$initrd" --disk "$work/disk" \
        --append "console=ttyS0 quiet panic=-1 kemari.run=$mode" --virtio-console --rng --timeout 100 \
        "$@" >"$work/console" 2>"$work/messages" || status=$?
    cat "$work/messages"
    if [ "$status" != 0 ]; then
        printf 'FAILED: boot-linux exit status %s\n' "$status"
        failures=$((failures + 1))
    fi
    # panic=-1 turns a panic of the guest into a reset, and a second boot would hide it.
    if [ "$mode" = selftest ] && grep -q 'event reset' "$work/messages"; then
        printf 'FAILED: the guest reset itself\n'
        failures=$((failures + 1))
    fi
}

value() {
    tr -d '\r' <"$work/console" | sed -n "s/^selftest: $1=//p"
}

# expect KEY PATTERN: what the guest says matches the extended regular expression as a whole.
expect() {
    if ! value "$1" | grep -Exq -- "$2"; then
        printf 'FAILED: %s is "%s", not "%s"\n' "$1" "$(value "$1")" "$2"
        failures=$((failures + 1))
    fi
}

# expect_machine VCPUS MEMORY-MIB: the whole list that the guest prints.
expect_machine() {
    expect cpus "$1"
    expect acpi '.*APIC.*DSDT.*FACP.*'
    expect virtio blk,console,net,rng
    expect hvc0 yes
    expect serial '[1-4]'
    expect mac '52:54:00:4b:45:01'
    expect rng ok
    expect blk ok
    expect blk_sectors 32768
    expect msi_blk '[1-9][0-9]*:[1-9][0-9]*'
    expect msi_rng '[1-9][0-9]*:[1-9][0-9]*'
    expect msi_net '[1-9][0-9]*:[0-9]+'
    expect timer_irqs '[1-9][0-9]*(,[1-9][0-9]*)*'
    expect clocksource '(kvm-clock|tsc)'
    expect warnings 0
    expect end ok
    local memory
    memory=$(value memory_kib)
    # The kernel keeps some for itself: its image, page structures, at most 64 MiB of bounce buffers.
    if [ "${memory:-0}" -lt $((($2 * 1024 - 131072) * 95 / 100)) ]; then
        printf 'FAILED: memory is %s KiB of %s MiB\n' "$memory" "$2"
        failures=$((failures + 1))
    fi
}

case $what in
cloud)
    boot selftest --vcpus 1 --memory 256
    expect_machine 1 256
    boot selftest --vcpus 8 --memory 512
    expect_machine 8 512
    ;;
full)
    boot selftest --vcpus 2 --memory 4096
    expect_machine 2 4096
    ;;
carry)
    boot selftest --vcpus 2 --memory 256 --move-every 250
    expect_machine 2 256
    ;;
reboot)
    boot reboot-once --vcpus 2 --memory 256
    for line in 'kemari-guest: ready reboot-once' 'kemari-guest: ready rebooted'; do
        if ! grep -q "$line" "$work/console"; then
            printf 'FAILED: the console lacks "%s"\n' "$line"
            failures=$((failures + 1))
        fi
    done
    ;;
*) die "unknown test '$what'" ;;
esac
if [ "$failures" != 0 ]; then
    printf 'last console:\n'
    tail -n 200 "$work/console"
    exit 1
fi
echo "passed"
