#include "base/mailbox.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

struct letter {
    struct letter *next;
    uint8_t bytes[];
};

struct mailbox {
    size_t size; /* set at creation */

    pthread_mutex_t lock; /* protects all below */
    pthread_cond_t posted;
    struct letter *head;
    struct letter **tail;
};

int mailbox_create(size_t size, struct mailbox **out, struct error *err)
{
    struct mailbox *mailbox = calloc(1, sizeof(*mailbox));
    *out = mailbox;
    if (!mailbox)
        return error_set(err, -ENOMEM, "mailbox: out of memory");
    mailbox->size = size;
    mailbox->tail = &mailbox->head;
    pthread_mutex_init(&mailbox->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&mailbox->posted, &attributes);
    pthread_condattr_destroy(&attributes);
    return 0;
}

void mailbox_destroy(struct mailbox **mailbox)
{
    struct mailbox *m = *mailbox;
    if (!m)
        return;
    while (m->head) {
        struct letter *next = m->head->next;
        free(m->head);
        m->head = next;
    }
    pthread_cond_destroy(&m->posted);
    pthread_mutex_destroy(&m->lock);
    free(m);
    *mailbox = NULL;
}

void mailbox_post(struct mailbox *mailbox, const void *letter)
{
    struct letter *copy = malloc(sizeof(*copy) + mailbox->size);
    if (!copy)
        abort();
    copy->next = NULL;
    memcpy(copy->bytes, letter, mailbox->size);
    pthread_mutex_lock(&mailbox->lock);
    *mailbox->tail = copy;
    mailbox->tail = &copy->next;
    pthread_cond_signal(&mailbox->posted);
    pthread_mutex_unlock(&mailbox->lock);
}

bool mailbox_wait(struct mailbox *mailbox, void *letter, nsec_t deadline)
{
    int rc = 0;
    pthread_mutex_lock(&mailbox->lock);
    while (!mailbox->head && rc == 0) {
        if (deadline == INT64_MAX) {
            rc = pthread_cond_wait(&mailbox->posted, &mailbox->lock);
        } else {
            const struct timespec until = clock_to_timespec(deadline > 0 ? deadline : 0);
            rc = pthread_cond_timedwait(&mailbox->posted, &mailbox->lock, &until);
        }
    }
    struct letter *first = mailbox->head;
    if (first) {
        mailbox->head = first->next;
        if (!mailbox->head)
            mailbox->tail = &mailbox->head;
    }
    pthread_mutex_unlock(&mailbox->lock);
    if (!first)
        return false;
    memcpy(letter, first->bytes, mailbox->size);
    free(first);
    return true;
}
