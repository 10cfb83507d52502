#!/bin/bash
# usage: kernel_tls_test.sh BUILD
#
# TLS with a kernel that encrypts: the unit tests of TLS and of the door in a virtual host whose kernel
# has it, and the kernel's own count of connections says that it did.
set -euo pipefail

build=$1
here=$(dirname "$(readlink -f "$0")")
rig=$here/../../scripts/rig

"$rig" --memory 1024 --timeout 250 -- bash -euc '
modprobe tls
"$0/test/unit/test-tls" "without a scheme" | tee /dev/stderr | grep -q "kernel TLS: on"
"$0/test/unit/test-tls"
"$0/test/unit/test-door"
awk "\$1 == \"TlsTxSw\" && \$2 > 10 { seen = 1 } END { exit !seen }" /proc/net/tls_stat
' "$(readlink -f "$build")"
