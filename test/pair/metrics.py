"""What Prometheus is told by a pair that protects a guest: both hosts, before and after a failover."""

import re
import sys
import urllib.request

import support
from refusals import expect_refusal
from support import check, inside, wait_until

PORT = 9120
SAMPLE = re.compile(r'^(kemari_\w+)\{((?:\w+="(?:[^"\\]|\\.)*",?)*)\} (\S+)$')


def scrape(world, side):
    """(name, labels) -> value of each sample; every line must be one that Prometheus reads."""
    with inside(world.network.names[side]):
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=20) as answer:
            text = answer.read().decode()
    samples = {}
    for line in text.splitlines():
        if line.startswith("# HELP ") or line.startswith("# TYPE "):
            continue
        sample = SAMPLE.match(line)
        check(sample, f"not a sample: {line}")
        key = sample[1], sample[2]
        check(key not in samples, f"twice: {line}")
        samples[key] = float(sample[3])
    return samples


def value(world, side, name, labels='vm="pair"'):
    return scrape(world, side)[name, labels]


def a_pair_tells_prometheus_how_it_does(world):
    primary, secondary = world.start_pair(metrics=PORT)
    check(value(world, "a", "kemari_role", 'vm="pair",role="primary"') == 1, "a is primary")
    check(value(world, "b", "kemari_role", 'vm="pair",role="secondary"') == 1, "b is secondary")
    for side in "ab":
        wait_until(lambda: value(world, side, "kemari_protected") == 1, f"{side} says protected")
    before = value(world, "a", "kemari_pause_seconds_count")
    after = wait_until(lambda: (now := scrape(world, "a"))["kemari_pause_seconds_count", 'vm="pair"']
                       > before and now, "checkpoints are counted")
    check(after["kemari_pause_seconds_bucket", 'vm="pair",le="+Inf"'] ==
          after["kemari_pause_seconds_count", 'vm="pair"'], "the last bucket holds all")
    check(after["kemari_pause_seconds_sum", 'vm="pair"'] > 0, "pauses take time")
    check(sum(v for (name, _), v in after.items() if name == "kemari_cuts_total") > 0, "triggers")
    check(value(world, "a", "kemari_arbiter_state", 'vm="pair",state="unreachable"') == 0, "arbiter")
    primary.kill()
    secondary.wait_for_state("alone")
    wait_until(lambda: value(world, "b", "kemari_role", 'vm="pair",role="solo"') == 1, "b is solo")
    check(value(world, "b", "kemari_protected") == 0, "nobody protects it")
    check(value(world, "b", "kemari_takeover_seconds") > 0, "and it took over")


def an_address_that_can_not_be_had_is_refused(world):
    expect_refusal(world, r"metrics 10\.99\.0\.9:9120: Cannot assign requested address",
                   host=world.hosts["b"], role="secondary", metrics=f"10.99.0.9:{PORT}")


TESTS = [a_pair_tells_prometheus_how_it_does, an_address_that_can_not_be_had_is_refused]

if __name__ == "__main__":
    sys.exit(support.main(sys.argv[1], TESTS))
