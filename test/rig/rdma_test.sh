#!/bin/bash
# usage: rdma_test.sh BUILD
#
# Links over RDMA on a soft-RoCE device, which the rig's kernel has: test/unit/rdma_link_test.c.
set -euo pipefail
build=$1
here=$(dirname "$(readlink -f "$0")")

if [ -z "${KEMARI_RIG-}" ]; then
    exec "$here/../../scripts/rig" --timeout 240 -- "$0" "$build"
fi
"$here/soft_roce.sh" eth-roce 10.78.0.1/24
export KEMARI_LINK_DOWN="ip link set eth-roce down"
export KEMARI_LINK_UP="ip link set eth-roce up"
exec "$build/test/unit/test-rdma-link" 10.78.0.1
