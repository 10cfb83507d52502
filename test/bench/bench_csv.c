#include "test/bench/bench_csv.h"

void bench_csv_header(FILE *out)
{
    fprintf(out, "scenario,link,policy,vcpus,memory_mib,dirty_pages,metric,unit,samples,p50,p99,"
                 "max\n");
}

static void put_case(FILE *out, const struct bench_case *c, const char *metric, const char *unit)
{
    fprintf(out, "%s,%s,%s,%u,%llu,%llu,%s,%s,", c->scenario, c->link, c->policy, c->vcpus,
            (unsigned long long)(c->memory >> 20), (unsigned long long)c->dirty, metric, unit);
}

void bench_csv_histogram(FILE *out, const struct bench_case *c, const char *metric,
                         const char *unit, const struct histogram *values)
{
    put_case(out, c, metric, unit);
    fprintf(out, "%llu,%lld,%lld,%llu\n", (unsigned long long)values->count,
            (long long)histogram_percentile(values, 0.5),
            (long long)histogram_percentile(values, 0.99), (unsigned long long)values->max);
    fflush(out);
}

void bench_csv_value(FILE *out, const struct bench_case *c, const char *metric, const char *unit,
                     double value)
{
    put_case(out, c, metric, unit);
    fprintf(out, "1,%.3f,%.3f,%.3f\n", value, value, value);
    fflush(out);
}
