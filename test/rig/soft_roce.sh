#!/bin/bash
# usage: soft_roce.sh INTERFACE [ADDRESS/PREFIX]
#
# Inside a rig: a soft-RoCE device on the interface; with an address, on a new pair of veth that is
# called so.
set -euo pipefail
interface=$1 address=${2-}

for module in crc32_generic ib_uverbs rdma_ucm rdma_rxe; do
    modprobe "$module"
done
if [ -n "$address" ]; then
    ip link add "$interface" type veth peer name "$interface-peer"
    ip address add "$address" dev "$interface"
    ip link set "$interface" up
    ip link set "$interface-peer" up
fi
rdma link add "rxe-$interface" type rxe netdev "$interface"
# The device nodes come from the kernel, /dev here is not always its own.
if [ ! -e /dev/infiniband/rdma_cm ]; then
    mkdir -p /dev/infiniband
    for node in /sys/class/misc/rdma_cm /sys/class/infiniband_verbs/*; do
        [ -e "$node/dev" ] || continue
        mknod "/dev/infiniband/${node##*/}" c $(tr : ' ' <"$node/dev")
    done
fi
