#!/bin/bash
# usage: soft_dirty_test.sh BUILD
#
# The dirty log of a kernel without PAGEMAP_SCAN, in a virtual host whose kernel has soft-dirty bits: the
# tests of them with another process of ours, with QEMU in software emulation, and with KVM; and a pair of
# daemons, whose Linux guest outlives its host and is protected again (test/pair/qemu.py).
set -euo pipefail

build=$1
here=$(dirname "$(readlink -f "$0")")
scripts=$here/../../scripts

# Here, since what the virtual host makes vanishes with it.
"$scripts/guest-image" --with redis >/dev/null
"$scripts/rig" --memory 2048 --timeout 560 -- bash -euo pipefail -c '
run() {
    "$@" 2>&1 | tee /tmp/said
    # The kernel has what is needed.
    if grep -q -e "left out" -e "^SKIP" /tmp/said; then
        exit 1
    fi
}
run "$0/test/unit/test-process-log" SOFTDIRTY
run "$0/test/kvm/test-qemu-dirty" softdirty
run python3 -B "$1" "$0" --soft-dirty
' "$(readlink -f "$build")" "$here/../pair/qemu.py"
