/* Lets the peer of a killed process know at once.
 *
 * When a process is killed the kernel frees its memory first and closes its descriptors afterwards
 * (do_exit(): exit_mm() before exit_files()). For a process with a guest inside, that is
 * milliseconds per GiB during which its TCP connections look alive. A second process that shares
 * the memory, and nothing else, keeps it from being freed: descriptors close immediately, the peer
 * reads the end of the stream, and the memory goes when that process follows, moments later.
 *
 * A process that should not outlive this one, such as a QEMU with a guest, is ended by that one,
 * too: a death signal would free its memory in the middle of our own end, on a processor that our
 * threads need to come to theirs.
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
#define QUICK_EXIT_WARDS_MAX    4

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

/* Is there somebody who outlives this process? Not in a child of it. Any thread. */
bool quick_exit_is_armed(void);

/* `pid`, a child that leads a process group, is to be killed when this process has ended without
 * quick_exit_disarm(), after its descriptors were closed; the group gets the lowest priority
 * before, since freeing its memory is urgent for nobody. At most QUICK_EXIT_WARDS_MAX; without
 * quick_exit_arm() it has no effect. Any thread. */
void quick_exit_take_along(pid_t pid);

/* No more; to be said before `pid` is reaped. Any thread, any number. */
void quick_exit_leave_alone(pid_t pid);

/* Ends it, for an orderly end: nothing is sent, and nobody is killed. Idempotent. */
void quick_exit_disarm(void);

#endif
