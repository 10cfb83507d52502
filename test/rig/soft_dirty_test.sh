#!/bin/bash
# usage: soft_dirty_test.sh BUILD
#
# The dirty log of a kernel without PAGEMAP_SCAN: the tests of soft-dirty bits in a virtual host whose
# kernel has them, with another process of ours, with QEMU in software emulation, and with KVM.
set -euo pipefail

build=$1
here=$(dirname "$(readlink -f "$0")")
rig=$here/../../scripts/rig

"$rig" --memory 1536 --timeout 350 -- bash -euo pipefail -c '
run() {
    "$@" 2>&1 | tee /tmp/said
    # The kernel has what is needed.
    if grep -q "left out" /tmp/said; then
        exit 1
    fi
}
run "$0/test/unit/test-process-log" SOFTDIRTY
run "$0/test/kvm/test-qemu-dirty" softdirty
' "$(readlink -f "$build")"
