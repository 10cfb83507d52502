/* The rows that every bench prints, read by test/bench/report.py:
 *
 *   scenario,link,policy,vcpus,memory_mib,dirty_pages,metric,unit,samples,p50,p99,max */
#ifndef KEMARI_TEST_BENCH_BENCH_CSV_H
#define KEMARI_TEST_BENCH_BENCH_CSV_H

#include <stdio.h>

#include "base/histogram.h"

/* What was measured under what circumstances. */
struct bench_case {
    const char *scenario; /* "load", "growth", ...: rows of one are compared with each other */
    const char *link;     /* "tcp", "inproc", or "none": unprotected */
    const char *policy;
    unsigned vcpus;
    uint64_t memory; /* bytes */
    uint64_t dirty;  /* pages that the guest writes per request */
};

void bench_csv_header(FILE *out);
void bench_csv_histogram(FILE *out, const struct bench_case *c, const char *metric,
                         const char *unit, const struct histogram *values);
void bench_csv_value(FILE *out, const struct bench_case *c, const char *metric, const char *unit,
                     double value);

#endif
