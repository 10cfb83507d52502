/* Lets the peer of a killed process know at once.
 *
 * When a process is killed the kernel frees its memory first and closes its descriptors afterwards
 * (do_exit(): exit_mm() before exit_files()). For a process with a guest inside, that is
 * milliseconds per GiB during which its TCP connections look alive. A second process that shares
 * the memory, and nothing else, keeps it from being freed: descriptors close immediately, the peer
 * reads the end of the stream, and the memory goes when that process follows, moments later.
 *
 * Who has no connection to be closed is told, too: that process has datagrams ready, which it sends
 * when the other one has ended. They are made beforehand, since nothing of a dead process may run:
 * its locks may be held for ever. */
#ifndef KEMARI_BASE_QUICK_EXIT_H
#define KEMARI_BASE_QUICK_EXIT_H

#include <sys/socket.h>

#include "base/error.h"
#include "base/types.h"

#define QUICK_EXIT_WORDS_MAX    8
#define QUICK_EXIT_SPEAKERS_MAX 4
#define QUICK_EXIT_WORD_SIZE    128

struct quick_exit_word {
    struct sockaddr_storage from; /* its port is not used: a successor may have it already */
    struct sockaddr_storage to;
    socklen_t from_size;
    socklen_t to_size;
    size_t size;
    uint8_t bytes[QUICK_EXIT_WORD_SIZE];
};

struct quick_exit_words {
    size_t count;
    struct quick_exit_word words[QUICK_EXIT_WORDS_MAX];
};

/* Starts the process, which ends after the last thread of this one. Call once, before other threads
 * exist. */
int quick_exit_arm(struct error *err);

/* What is sent when this process has ended without quick_exit_disarm(), in place of what the same
 * speaker (below QUICK_EXIT_SPEAKERS_MAX) gave before. Copied; a process killed in the middle of it
 * sends one or the other. One thread per speaker at a time; may be called without quick_exit_arm(),
 * and has no effect then. */
void quick_exit_say(unsigned speaker, const struct quick_exit_words *words);

/* Ends it, for an orderly end: nothing is sent. Idempotent. */
void quick_exit_disarm(void);

#endif
