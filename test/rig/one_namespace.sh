#!/bin/bash
# usage: one_namespace.sh DEVICE ADDRESS DEVICE ADDRESS [...]
#
# Two hosts in one network namespace, of a rig: the two ends of each wire, given as device and address
# on host a, then on host b, reach each other over that wire, although both addresses are this
# namespace's own.  For soft-RoCE, which knows the first namespace only (Linux 6.1, drivers/infiniband/sw/
# rxe/rxe_net.c); other pairs have a namespace for each host.
#
# The first rule of routing finds own addresses, and would keep every packet inside.  Here it is for
# what comes in by a wire; what goes out to another end goes there.  May be called again with devices
# of the same names.
set -euo pipefail

for preference in 10 20; do
    while ip rule del pref "$preference" 2>/dev/null; do :; done
done
table=200
while [ $# -ge 4 ]; do
    a=$1 address_a=$2 b=$3 address_b=$4
    shift 4
    ip -batch - <<RULES
rule add pref 10 iif $a lookup local
rule add pref 10 iif $b lookup local
route replace $address_b dev $a src $address_a table $table
route replace $address_a dev $b src $address_b table $((table + 1))
rule add pref 20 to $address_b lookup $table
rule add pref 20 to $address_a lookup $((table + 1))
RULES
    table=$((table + 2))
done
if [ -z "$(ip rule show pref 30)" ]; then
    ip rule add pref 30 lookup local
    ip rule del pref 0
fi
# A packet from one address of ours to another is no forgery here, and each end answers for itself.
echo 1 >/proc/sys/net/ipv4/conf/all/accept_local
echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore
