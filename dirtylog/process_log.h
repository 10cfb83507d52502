/* The dirty logs of another process, and which of them this host has. */
#ifndef KEMARI_DIRTYLOG_PROCESS_LOG_H
#define KEMARI_DIRTYLOG_PROCESS_LOG_H

#include "dirtylog/dirtylog.h"

enum process_log {
    PROCESS_LOG_AUTO,      /* the first of the others that the kernel has */
    PROCESS_LOG_PAGEMAP,   /* dirtylog/pagemap.c: the tracker library is to be in the process */
    PROCESS_LOG_SOFTDIRTY, /* dirtylog/softdirty.c */
};

/* Tries the kernel: which of them is to be used, never PROCESS_LOG_AUTO; -ENOTSUP with the reason
 * when the wanted one, or each of them, can't be. */
int process_log_choose(enum process_log wanted, enum process_log *chosen, struct error *err);

/* As dirtylog_pagemap_create() and dirtylog_softdirty_create(), with as many threads as pay. */
int process_log_create(enum process_log chosen, pid_t pid, struct gmem *memory,
                       struct dirtylog **out, struct error *err);

/* "pagemap", "softdirty". */
const char *process_log_name(enum process_log chosen);

#endif
