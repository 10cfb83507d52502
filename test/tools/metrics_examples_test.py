#!/usr/bin/env python3
"""usage: metrics_examples_test.py SOURCE-DIR

What docs/examples/ asks Prometheus for exists: each metric is in docs/metrics.md (which another test
compares with the code), and the three
alerts that every pair needs are there.
"""
import json
import re
import sys
import unittest
from pathlib import Path

SOURCE = Path(sys.argv.pop(1))
NAME = re.compile(r"\bkemari_\w+")
SUFFIX = re.compile(r"_(bucket|sum|count)$")


def reference():
    """Name -> type."""
    rows = re.findall(r"^\| `(kemari_\w+)` \| (\w+) \|", (SOURCE / "docs/metrics.md").read_text(),
                      re.M)
    return dict(rows)


def unknown_names(text, known):
    for name in NAME.findall(text):
        base = SUFFIX.sub("", name)
        if not (name in known and known[name] != "histogram" or known.get(base) == "histogram"
                and base != name):
            yield name


class Examples(unittest.TestCase):
    def test_a_name_that_does_not_exist_is_found(self):
        known = {"kemari_a": "gauge", "kemari_h": "histogram"}
        self.assertEqual(list(unknown_names("kemari_a + kemari_h_bucket + kemari_b + kemari_h",
                                            known)), ["kemari_b", "kemari_h"])

    def test_alerts_use_names_that_exist(self):
        text = (SOURCE / "docs/examples/prometheus-rules.yml").read_text()
        expressions = "\n".join(re.findall(r"^ +expr: (.*)", text, re.M))
        self.assertEqual(list(unknown_names(expressions, reference())), [])
        for alert in ("NotProtected", "HoldOverCap", "ArbiterUnreachable"):
            self.assertIn(f"- alert: Kemari{alert}\n", text)

    def test_the_dashboard_uses_names_that_exist(self):
        dashboard = json.loads((SOURCE / "docs/examples/grafana-dashboard.json").read_text())
        expressions = [target["expr"] for panel in dashboard["panels"]
                       for target in panel["targets"]]
        self.assertGreater(len(expressions), 10)
        self.assertEqual(list(unknown_names("\n".join(expressions), reference())), [])


if __name__ == "__main__":
    unittest.main()
