#!/usr/bin/env python3
"""usage: refusals.py BUILD

What can't work is refused at the start: one sentence on standard error that says what and where, an
exit status that isn't 0, and nothing half-started. Acceptance of the last sentence of "kemarid and
kemarictl" in the first issue, told from outside.
"""

import re
import socket
import subprocess
import sys

import support
from support import check, inside, wait_until


def files_below(folder):
    return sorted(str(path) for path in folder.rglob("*"))


def run_daemon(world, host, words, prefix=()):
    """Exit status and standard error of a daemon that is expected to end by itself."""
    done = subprocess.run(
        ["ip", "netns", "exec", world.network.names[host.side], *prefix, *words],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=support.LIMIT,
        preexec_fn=support.die_with_parent)
    check(done.stdout == "", f"it said on standard output: {done.stdout!r}")
    return done.returncode, done.stderr


def expect_refusal(world, sentence, host=None, status=1, role="primary", prefix=(), **changes):
    """`sentence` is a regular expression for all of the line after "kemarid: "."""
    host = host or world.hosts["a"]
    before = files_below(world.folder)
    code, said = run_daemon(world, host, host.command(role, **changes), prefix)
    said = "".join(line for line in said.splitlines(True) if not line.startswith("info "))
    check(re.fullmatch(f"kemarid: {sentence}\n", said), f"wanted: {sentence}\n  got: {said}")
    check(code == status, f"exit status {code}, not {status}: {said}")
    left = set(files_below(world.folder)) - set(before)
    check(not left, f"left behind after \"{said.strip()}\": {left}")


def wait_for_history(host):
    """Of events: it is written in the background, and what follows looks for new files."""
    wait_until((host.folder / "state" / "pair.events").exists, f"the history of {host.side}")


def wrong_configurations(world):
    def refuse(sentence, **changes):
        expect_refusal(world, sentence, status=2, **changes)

    refuse(r"--vcpus: 0 is out of range, 1 to 64", vcpus=0)
    refuse(r"--kernel: /gone: No such file or directory", kernel="/gone")
    refuse(r"--initrd: /gone: No such file or directory", initrd="/gone")
    refuse(r"\[heartbeat\] secret-file: this option is needed in a pair, .*", secret_file=None)
    refuse(r"\[replication\] listen: this option is needed with peer, .*", listen=None)
    (world.folder / "a.ini").write_text("[vm]\nname = pair\nrole = both\n")
    code, said = run_daemon(world, world.hosts["a"], [
        str(world.build / "app" / "kemarid"), "--config", str(world.folder / "a.ini")])
    check(code == 2 and re.fullmatch(
        r'kemarid: \S*/a\.ini:3: role: "both" is not one of: primary, secondary, auto\n', said), said)


def a_file_that_is_no_kernel(world):
    path = world.folder / "poem"
    path.write_text("no kernel at all\n" * 1000)
    expect_refusal(world, rf".*{path}.*", kernel=path)


def a_kvm_that_cannot_be_used(world):
    for cover in ("/dev/null", world.secret):
        expect_refusal(world, r".*/dev/kvm.*",
                       prefix=("unshare", "--mount", "sh", "-c",
                               'mount --bind "$0" /dev/kvm && exec "$@"', str(cover)))


def a_kvm_without_permission(world):
    expect_refusal(world, r"no permission for /dev/kvm: .*",
                   prefix=("unshare", "--mount", "sh", "-c",
                           "mount -t tmpfs none /mnt && mknod /mnt/kvm c 10 232 && "
                           "mount --bind -o nodev /mnt /mnt && mount -o remount,bind,nodev /mnt && "
                           'mount --bind /mnt/kvm /dev/kvm && exec "$0" "$@"'))


def a_missing_tap(world):
    expect_refusal(world, r".*tap9.*", net_0="tap9")


def an_occupied_listen_address(world):
    with inside(world.network.names["a"]), socket.socket() as taken:
        taken.bind(("10.99.0.1", 7000))
        taken.listen()
        expect_refusal(world, r'address "tls://10\.99\.0\.1:7000" is in use by another program')


def an_address_of_another_host(world):
    expect_refusal(world, r'address "tls://10\.99\.0\.77:7000" does not belong to this host',
                   listen="tls://10.99.0.77:7000")


def an_occupied_heartbeat_address(world):
    with inside(world.network.names["a"]), \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("10.99.0.1", 7001))
        expect_refusal(world, r".* 10\.99\.0\.1:7001: the address is in use by another program")


def a_second_daemon_of_the_same_machine(world):
    first = world.hosts["a"]
    first.start("primary")
    first.wait_for_state("connecting")
    wait_for_history(first)
    other = {"listen": "tls://10.99.0.1:7100", "path_0": "10.99.0.1:7101,10.99.0.2:7101",
             "net_0": None}
    expect_refusal(world, r".*/a/run/pair\.sock.*", **other)
    expect_refusal(world, r".*/a/state.*", control_socket=world.folder / "other.sock", **other)
    check(first.status()["state"] == "connecting", "the first one did not notice")
    first.order("stop")
    check(first.wait_exit() == 0, "the first one ends in an orderly way")


def a_damaged_term_record(world):
    host = world.hosts["a"]
    (host.folder / "state").mkdir()
    record = host.folder / "state" / "pair.term"
    (host.folder / "state" / "pair.lock").touch()
    record.write_text("kemari-term 1\nvm pair\nterm 7\nownership owner\nsha256 00\n")
    expect_refusal(world, rf".*{record}.*")


def a_machine_of_another_kind(world):
    """Each difference that matters is told by the secondary, which ends; the primary waits on."""
    primary, secondary = world.hosts["a"], world.hosts["b"]
    primary.start("primary")
    primary.wait_for_state("connecting")
    wait_for_history(primary)
    # These daemons run until their primary refuses them: files of a running daemon are in order.
    for name in ("state", "run"):
        (secondary.folder / name).mkdir()
    for name in ("state/pair.lock", "state/other.lock", "state/pair.events", "state/other.events",
                 "console"):
        (secondary.folder / name).touch()
    other_secret = world.folder / "other-secret"
    other_secret.write_text("another secret of the pair tests\n")
    other_secret.chmod(0o600)
    differences = {
        r".*peer has 67108864 bytes of memory, this host 33554432.*": {"memory": "32M"},
        r".*vcpus=1.*vcpus=2.*": {"vcpus": "2"},
        r".*mac.*": {"net_0": "tap0,mac=52:54:00:00:00:09"},
        r".*machine.*": {"name": "other"},
        r".*the peer refused: this host does not hold the peer's secret": {"secret_file": other_secret},
    }
    for sentence, changes in differences.items():
        expect_refusal(world, sentence, host=secondary, role="secondary", **changes)
    check(primary.status()["state"] == "connecting", "the primary waits on")
    primary.order("stop")
    check(primary.wait_exit() == 0, "and ends in an orderly way")


TESTS = [
    wrong_configurations,
    a_file_that_is_no_kernel,
    a_kvm_that_cannot_be_used,
    a_kvm_without_permission,
    a_missing_tap,
    an_occupied_listen_address,
    an_address_of_another_host,
    an_occupied_heartbeat_address,
    a_second_daemon_of_the_same_machine,
    a_damaged_term_record,
    a_machine_of_another_kind,
]

if __name__ == "__main__":
    chosen = [test for test in TESTS if not sys.argv[2:] or test.__name__ in sys.argv[2:]]
    sys.exit(support.main(sys.argv[1], chosen))
