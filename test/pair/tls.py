#!/usr/bin/env python3
"""usage: tls.py BUILD

The connection between the hosts: secured by the pair's secret (as in every other pair test), by
certificates, or not at all where somebody asked for that; and everybody else is refused with a
sentence, and counted.
"""

import subprocess
import sys

import support
from oracle import Oracle
from refusals import expect_refusal
from support import check, run, wait_until

ADDRESSES = {"a": "10.99.0.1", "b": "10.99.0.2"}


def fail_over(world, primary, secondary):
    """Whatever carries the checkpoints, the guest goes on where it was."""
    oracle = Oracle(world).start()
    oracle.wait_answers(5)
    primary.kill()
    secondary.wait_for("took over", lambda status: status["takeover"]["happened"])
    oracle.wait_answers(5)
    oracle.verify()
    primary.start("secondary", **primary.changes)
    secondary.wait_protected()
    primary.wait_protected()
    oracle.wait_answers(3)
    oracle.verify()


def start_pair(world, own_changes=None, **changes):
    """A protected pair; `own_changes` are of one side each."""
    for side, host in world.hosts.items():
        host.changes = {**changes, **(own_changes or {}).get(side, {})}
    primary, secondary = world.hosts["a"], world.hosts["b"]
    primary.start("primary", **primary.changes)
    secondary.start("secondary", **secondary.changes)
    primary.wait_protected()
    secondary.wait_protected()
    return primary, secondary


def check_secured(world):
    for host in world.hosts.values():
        status = host.status()
        peer = status["peer"]
        check(peer["transport"] == "tls" and peer["encrypted"], f"{host.side}: {peer}")
        check(peer["cipher"].startswith("TLS_"), f"{host.side}: {peer}")
        # A host that came back may have called before the other one was the primary.
        check(peer["refused"] == 0 or "refused (role)" in peer["refusal"], f"{host.side}: {peer}")
        check(not any("not encrypted" in text for text in status["warnings"]), status["warnings"])


def certificates(world, folder="ca", names=tuple(ADDRESSES.values())):
    """Made as an operator makes them."""
    directory = world.folder / folder
    directory.mkdir()
    run(str(world.build / "app" / "kemarictl"), "keygen", "certificates", str(directory), *names)
    return directory


def identity(directory, name, authority=None):
    return {"tls_cert_file": directory / f"{name}.pem", "tls_key_file": directory / f"{name}.key",
            "tls_ca_file": (authority or directory) / "ca.pem"}


def a_failover_with_the_secret(world):
    primary, secondary = start_pair(world)
    check_secured(world)
    fail_over(world, primary, secondary)


def a_failover_with_certificates(world):
    directory = certificates(world)
    own = {side: identity(directory, address) for side, address in ADDRESSES.items()}
    primary, secondary = start_pair(world, own)
    check_secured(world)
    fail_over(world, primary, secondary)


def a_failover_over_several_streams(world):
    """The smaller number counts, and it is the same after the roles have changed."""
    own = {"a": {"streams": 3}, "b": {"streams": 5}}
    primary, secondary = start_pair(world, own)
    check_secured(world)
    for host in world.hosts.values():
        streams = host.status()["peer"]["streams"]
        check(streams == 3, f"{host.side} uses {streams} streams")
    fail_over(world, primary, secondary)
    check(secondary.status()["peer"]["streams"] == 3, "and afterwards")


def a_failover_without_encryption_says_so(world):
    own = {side: {"listen": f"tcp://{ADDRESSES[side]}:7000", "peer": f"tcp://{ADDRESSES[other]}:7000"}
           for side, other in ("ab", "ba")}
    primary, secondary = start_pair(world, own)
    for host in world.hosts.values():
        status = host.status()
        peer = status["peer"]
        check(peer["transport"] == "tcp" and not peer["encrypted"] and not peer["cipher"], f"{peer}")
        check("the connection to the peer is not encrypted" in status["warnings"],
              f"{status['warnings']}")
    fail_over(world, primary, secondary)


def expect_kept_out(world, primary, sentence, at_primary, **changes):
    """A secondary that may come back with a better certificate: it goes on trying, and both sides
    say what is wrong; the primary counts."""
    secondary = world.hosts["b"]
    before = primary.status()["peer"]["refused"]
    secondary.start("secondary", **changes)
    secondary.wait_for(sentence, lambda status: sentence in status["reason"])
    status = primary.wait_for(at_primary, lambda status: at_primary in status["peer"]["refusal"])
    check(status["peer"]["refused"] > before, f"not counted: {status['peer']}")
    check(status["state"] == "connecting", f"the primary is {status['state']}")
    check("\n" not in status["peer"]["refusal"], status["peer"]["refusal"])
    wait_until(lambda: any(event["kind"] == "peer.refused" and at_primary in event["text"]
                           for event in primary.events()), f"an event: {at_primary}")
    secondary.kill()


def certificates_that_prove_nothing_are_refused_and_counted(world):
    directory = certificates(world)
    foreign = certificates(world, "foreign")
    tool = str(world.build / "test" / "tls-identity")
    for folder, age in (("old", "expired"), ("new", "future")):
        # Another certificate of the same host and authority.
        target = world.folder / folder
        target.mkdir()
        for name in ("ca.pem", "ca.key"):
            (target / name).write_bytes((directory / name).read_bytes())
        subprocess.run([tool, str(target), ADDRESSES["b"], age], check=True)
    primary = world.hosts["a"]
    primary.start("primary", **identity(directory, ADDRESSES["a"]))
    primary.wait_for_state("connecting")

    def refuse(sentence, at_primary, *, certificate_of=directory, authority=directory,
               name=ADDRESSES["b"], **changes):
        expect_kept_out(world, primary, sentence, at_primary,
                        **identity(certificate_of, name, authority), **changes)

    refuse("refused this host's certificate: it has expired",
           "the peer's certificate is refused: it has expired",
           certificate_of=world.folder / "old")
    refuse("refused this host's certificate: it is not valid yet",
           "the peer's certificate is refused: it is not valid yet",
           certificate_of=world.folder / "new")
    refuse("refused this host's certificate: another authority",
           "none of the authorities in ca-file signed it", certificate_of=foreign)
    refuse("none of the authorities in ca-file signed it",
           "refused this host's certificate: another authority", authority=foreign)
    refuse("refused this host's certificate", "it does not name the host that peer-name expects",
           name=ADDRESSES["a"])
    refuse("it does not name the host that peer-name expects", "refused this host's certificate",
           tls_peer_name="10.99.0.3")
    secondary = world.hosts["b"]
    expect_kept_out(world, primary, "authenticate in the same way",
                    "or the peer authenticates by secret-file")
    secondary.start("secondary", **identity(directory, ADDRESSES["b"]))
    primary.wait_protected()
    check(primary.status()["peer"]["refused"] >= 7, "all of them are counted")


def other_schemes_and_secrets_are_refused_and_counted(world):
    primary = world.hosts["a"]
    primary.start("primary")
    primary.wait_for_state("connecting")
    plain = {"listen": "tcp://10.99.0.2:7000", "peer": "tcp://10.99.0.1:7000"}
    expect_kept_out(world, primary, "the peer speaks TLS and this host does not",
                    "the peer speaks plain tcp:// and this host tls://", **plain)
    primary.kill()
    primary.start("primary", listen="tcp://10.99.0.1:7000", peer="tcp://10.99.0.2:7000")
    primary.wait_for_state("connecting")
    expect_kept_out(world, primary, "does it expect plain tcp://?",
                    "the peer speaks TLS and this host does not")
    primary.kill()
    primary.start("primary")
    primary.wait_for_state("connecting")
    secondary = world.hosts["b"]
    other = world.folder / "other-secret"
    run(str(world.build / "app" / "kemarictl"), "keygen", "secret", str(other))
    # It ends: another secret is no matter of time.
    for name in ("state", "run"):
        (secondary.folder / name).mkdir(exist_ok=True)
    for name in ("state/pair.lock", "console"):
        (secondary.folder / name).touch()
    expect_refusal(world, r".*the peer refused: this host does not hold the peer's secret",
                   host=secondary, role="secondary", secret_file=other)
    # It was told first, and is counted then.
    peer = primary.wait_for("a refusal", lambda status: status["peer"]["refused"] > 0)["peer"]
    check(peer["refused"] == 1, f"not counted once: {peer}")
    check("the peer does not hold this pair's secret" in peer["refusal"], f"{peer}")


TESTS = [
    a_failover_with_the_secret,
    a_failover_with_certificates,
    a_failover_over_several_streams,
    a_failover_without_encryption_says_so,
    certificates_that_prove_nothing_are_refused_and_counted,
    other_schemes_and_secrets_are_refused_and_counted,
]

if __name__ == "__main__":
    chosen = [test for test in TESTS if not sys.argv[2:] or test.__name__ in sys.argv[2:]]
    sys.exit(support.main(sys.argv[1], chosen))
