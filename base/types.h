/* Named scalar types shared by all folders. Units are part of the name where a mix-up would hurt. */
#ifndef KEMARI_BASE_TYPES_H
#define KEMARI_BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t gpa_t;   /* guest physical address, bytes */
typedef uint64_t gfn_t;   /* guest frame number: gpa >> PAGE_SHIFT */
typedef uint64_t epoch_t; /* number of a checkpoint; 0 means none (DESIGN §2) */
typedef uint64_t term_t;  /* number of an ownership period; 0 means none (DESIGN §2) */
typedef int64_t nsec_t;   /* nanoseconds; differences may be negative */

#define PAGE_SHIFT 12
#define PAGE_SIZE  ((size_t)1 << PAGE_SHIFT)

#define USEC(n) ((nsec_t)(n) * 1000)
#define MSEC(n) ((nsec_t)(n) * 1000000)
#define SEC(n)  ((nsec_t)(n) * 1000000000)

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#endif
