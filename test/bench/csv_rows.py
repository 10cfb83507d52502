"""Rows of measurements, as test/bench/bench_csv.h writes them."""

HEAD = "scenario,link,policy,vcpus,memory_mib,dirty_pages,metric,unit,samples,p50,p99,max\n"


def row(where, metric, unit, count, p50, p99, most):
    """`where` is scenario, link, policy, vcpus, memory in MiB, dirty pages."""
    return (",".join(map(str, where)) +
            f",{metric},{unit},{count},{p50:.1f},{p99:.1f},{most:.1f}\n")


def row_of_samples(where, metric, unit, samples):
    values = sorted(samples)
    p50, p99 = (values[min(len(values) - 1, int(len(values) * f))] for f in (0.5, 0.99))
    return row(where, metric, unit, len(values), p50, p99, values[-1])
