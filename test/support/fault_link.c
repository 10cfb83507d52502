/* The fault layer: see test/support/fault_link.h.
 *
 * It stands where a carrier stands, under link.c and over the inner link's carrier, so what it
 * damages is damaged for real: the digests were computed above it and are verified above the peer.
 * Each direction has a lane that follows the frames in the stream of bytes; a frame's header is
 * held back until it is complete, so that rules and hook know the frame before any of it moves. */
#include "test/support/fault_link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "transport/link_backend.h"
#include "transport/message.h"

struct lane {
    enum fault_direction direction;
    uint64_t frame; /* number of the current frame, from 1; 0: none has begun */
    uint64_t start; /* stream position of its first byte */
    uint64_t position;
    uint8_t header[FRAME_HEADER_SIZE];
    size_t header_used;    /* bytes of the next header that are here */
    size_t header_served;  /* receive: bytes of a complete header that the caller has */
    uint64_t payload_left; /* of the current frame */
    unsigned delay_ms;     /* that the current frame still has to wait */
};

struct fault_link {
    struct link link; /* first member */
    struct link *inner;
    fault_hook *hook;
    void *hook_context;

    pthread_mutex_t lock;
    pthread_cond_t changed;

    /* protected by lock */
    struct fault_rule rules[FAULT_RULES_MAX];
    bool done[FAULT_RULES_MAX];
    size_t rule_count;
    bool cut;
    bool down;
    unsigned stalled; /* threads held by a stall */
    uint64_t random;

    struct lane send_lane;    /* owned by the sender */
    struct lane receive_lane; /* owned by the receiver */
};

/* xorshift64*: any sequence will do, as long as the seed decides it. */
static uint64_t next_random(struct fault_link *f)
{
    f->random ^= f->random >> 12;
    f->random ^= f->random << 25;
    f->random ^= f->random >> 27;
    return f->random * 0x2545f4914f6cdd1d;
}

/* --- rules --- */

/* Where in the stream the rule acts; false when that isn't known (its frame is not the current
 * one). */
static bool rule_position(const struct fault_rule *rule, const struct lane *lane, uint64_t *out)
{
    if (rule->at_frame && rule->at_frame != lane->frame)
        return false;
    *out = rule->at_frame ? lane->start + rule->at_byte : rule->at_byte;
    return true;
}

/* The rule that acts first within [position, position + *size), and shortens *size to the bytes
 * before it. -1: none. Called with the lock. */
static int first_event(struct fault_link *f, const struct lane *lane, size_t *size)
{
    int found = -1;
    for (size_t i = 0; i < f->rule_count; i++) {
        const struct fault_rule *rule = &f->rules[i];
        uint64_t at;
        if (f->done[i] || rule->direction != lane->direction || rule->kind >= FAULT_DELAY ||
            !rule_position(rule, lane, &at) || at < lane->position || at - lane->position >= *size)
            continue;
        found = (int)i;
        *size = (size_t)(at - lane->position);
    }
    return found;
}

/* Does a DELAY or SHORT rule apply already? Called with the lock. */
static const struct fault_rule *lasting_rule(const struct fault_link *f, const struct lane *lane,
                                             enum fault_kind kind)
{
    for (size_t i = 0; i < f->rule_count; i++) {
        const struct fault_rule *rule = &f->rules[i];
        if (rule->kind == kind && rule->direction == lane->direction &&
            (rule->at_frame ? lane->frame >= rule->at_frame : lane->position >= rule->at_byte))
            return rule;
    }
    return NULL;
}

/* --- waiting --- */

/* Until when a wait may last; 0: for ever. */
static nsec_t limit_of(const struct link_wait *wait)
{
    const nsec_t idle = wait->idle_ms ? clock_now() + MSEC(wait->idle_ms) : 0;
    if (!idle || !wait->deadline)
        return idle ? idle : wait->deadline;
    return idle < wait->deadline ? idle : wait->deadline;
}

/* Called with the lock; false when the time is over. */
static bool wait_changed(struct fault_link *f, nsec_t until)
{
    if (!until)
        return pthread_cond_wait(&f->changed, &f->lock) == 0;
    const struct timespec ts = clock_to_timespec(until);
    return pthread_cond_timedwait(&f->changed, &f->lock, &ts) == 0;
}

static int broken(const struct fault_link *f, struct error *err)
{
    return f->cut || f->down ? error_set(err, -ECONNRESET, "cut by the fault layer") : 0;
}

static int stall(struct fault_link *f, int rule, const struct link_wait *wait, struct error *err)
{
    const nsec_t until = limit_of(wait);
    f->stalled++;
    pthread_cond_broadcast(&f->changed);
    bool in_time = true;
    while (!f->done[rule] && !f->cut && !f->down && in_time)
        in_time = wait_changed(f, until);
    f->stalled--;
    const int rc = broken(f, err);
    return rc < 0 || f->done[rule] ? rc : error_set(err, -ETIMEDOUT, "stalled by the fault layer");
}

static int delay(struct fault_link *f, struct lane *lane, struct error *err)
{
    const nsec_t until = clock_now() + MSEC(lane->delay_ms);
    lane->delay_ms = 0;
    pthread_mutex_lock(&f->lock);
    while (!f->cut && !f->down && clock_now() < until)
        wait_changed(f, until);
    const int rc = broken(f, err);
    pthread_mutex_unlock(&f->lock);
    return rc;
}

/* --- bytes --- */

static void cut_locked(struct fault_link *f)
{
    f->cut = true;
    pthread_cond_broadcast(&f->changed);
    link_shutdown(f->inner);
}

/* Takes the next piece of [data, data + *size): does what a rule wants at its first byte, and
 * shortens *size to the bytes that may move now. */
static int next_piece(struct fault_link *f, struct lane *lane, uint8_t *data, size_t *size,
                      const struct link_wait *wait, struct error *err)
{
    pthread_mutex_lock(&f->lock);
    int rc = broken(f, err);
    while (rc == 0) {
        size_t before = *size;
        const int rule = first_event(f, lane, &before);
        if (rule < 0 || before > 0) {
            *size = before;
            break;
        }
        if (f->rules[rule].kind == FAULT_STALL) {
            rc = stall(f, rule, wait, err);
            continue;
        }
        f->done[rule] = true;
        if (f->rules[rule].kind == FAULT_CUT) {
            cut_locked(f);
            rc = broken(f, err);
        } else {
            data[0] = (uint8_t)(data[0] ^ (1u << next_random(f) % 8));
        }
    }
    if (rc == 0 && lane->direction == FAULT_SEND && lasting_rule(f, lane, FAULT_SHORT)) {
        const size_t piece = 1 + (size_t)(next_random(f) % 7);
        *size = *size < piece ? *size : piece;
    }
    pthread_mutex_unlock(&f->lock);
    return rc;
}

/* Moves bytes of one frame past the rules. Sending: hands them to the inner carrier. Receiving:
 * they are in the caller's buffer already, and *moved counts those it may have. */
static int move(struct fault_link *f, struct lane *lane, uint8_t *data, size_t size, size_t *moved,
                const struct link_wait *wait, struct error *err)
{
    while (size) {
        size_t piece = size;
        int rc = next_piece(f, lane, data, &piece, wait, err);
        if (rc == 0 && lane->direction == FAULT_SEND) {
            struct iovec part = {data, piece};
            rc = f->inner->ops->send(f->inner, &part, 1, wait, err);
        }
        if (rc < 0)
            return rc;
        lane->position += piece;
        *moved += piece;
        data += piece;
        size -= piece;
    }
    return 0;
}

/* A header is complete: a new frame begins. `payload` is what is here of it. */
static void begin_frame(struct fault_link *f, struct lane *lane, const uint8_t *payload,
                        size_t payload_size)
{
    struct frame frame;
    frame_decode(lane->header, &frame, NULL);
    pthread_mutex_lock(&f->lock);
    lane->frame++;
    lane->start = lane->position;
    lane->payload_left = frame.size;
    const struct fault_rule *rule = lasting_rule(f, lane, FAULT_DELAY);
    lane->delay_ms = rule ? rule->delay_ms : 0;
    pthread_mutex_unlock(&f->lock);
    struct message message = {0};
    if (frame.type == FRAME_CONTROL && payload_size >= frame.size)
        message_decode(payload, frame.size, &message, NULL);
    if (f->hook)
        f->hook(f->hook_context, lane->direction, &frame, (int)message.kind);
}

/* --- as a carrier --- */

/* Sends what is in `data`: whole frames, or parts of them when another fault layer lies above. */
static int send_bytes(struct fault_link *f, uint8_t *data, size_t size,
                      const struct link_wait *wait, struct error *err)
{
    struct lane *lane = &f->send_lane;
    size_t moved = 0;
    int rc = 0;
    while (size && rc == 0) {
        size_t n;
        if (lane->payload_left) {
            n = lane->payload_left < size ? (size_t)lane->payload_left : size;
            lane->payload_left -= n;
            rc = move(f, lane, data, n, &moved, wait, err);
        } else {
            n = FRAME_HEADER_SIZE - lane->header_used;
            n = n < size ? n : size;
            memcpy(lane->header + lane->header_used, data, n);
            lane->header_used += n;
            if (lane->header_used == FRAME_HEADER_SIZE) {
                lane->header_used = 0;
                begin_frame(f, lane, data + n, size - n);
                rc = delay(f, lane, err);
                if (rc == 0)
                    rc = move(f, lane, lane->header, FRAME_HEADER_SIZE, &moved, wait, err);
            }
        }
        data += n;
        size -= n;
    }
    return rc;
}

static int fault_send(struct link *link, struct iovec *parts, int count,
                      const struct link_wait *wait, struct error *err)
{
    struct fault_link *f = (struct fault_link *)link;
    size_t size = 0;
    for (int i = 0; i < count; i++)
        size += parts[i].iov_len;
    uint8_t *data = malloc(size);
    if (!data)
        return error_set(err, -ENOMEM, "no memory for the fault layer");
    size_t used = 0;
    for (int i = 0; i < count; i++) {
        memcpy(data + used, parts[i].iov_base, parts[i].iov_len);
        used += parts[i].iov_len;
    }
    const int rc = send_bytes(f, data, size, wait, err);
    free(data);
    return rc;
}

/* Reads from the inner carrier; its end of file after a cut of ours is a broken connection. */
static int receive_inner(struct fault_link *f, uint8_t *data, size_t size, size_t *got,
                         const struct link_wait *wait, struct error *err)
{
    const int rc = f->inner->ops->receive(f->inner, data, size, got, wait, err);
    if (rc == 0)
        return 0;
    pthread_mutex_lock(&f->lock);
    const int ours = broken(f, err);
    pthread_mutex_unlock(&f->lock);
    return ours < 0 ? ours : rc;
}

/* Brings the next header here, complete, and lets the frame begin. */
static int fetch_header(struct fault_link *f, size_t *got, const struct link_wait *wait,
                        struct error *err)
{
    struct lane *lane = &f->receive_lane;
    size_t n = 0;
    const int rc = receive_inner(f, lane->header + lane->header_used,
                                 FRAME_HEADER_SIZE - lane->header_used, &n, wait, err);
    lane->header_used += n;
    if (rc < 0) {
        *got += n;
        return rc;
    }
    begin_frame(f, lane, NULL, 0);
    return delay(f, lane, err);
}

static int fault_receive(struct link *link, void *buffer, size_t size, size_t *got,
                         const struct link_wait *wait, struct error *err)
{
    struct fault_link *f = (struct fault_link *)link;
    struct lane *lane = &f->receive_lane;
    uint8_t *out = buffer;
    *got = 0;
    while (*got < size) {
        const size_t missing = size - *got;
        int rc = 0;
        size_t n;
        if (lane->header_used < FRAME_HEADER_SIZE && !lane->payload_left) {
            rc = fetch_header(f, got, wait, err);
        } else if (lane->header_used == FRAME_HEADER_SIZE) {
            n = FRAME_HEADER_SIZE - lane->header_served;
            n = n < missing ? n : missing;
            const size_t before = *got;
            uint8_t *from = lane->header + lane->header_served;
            rc = move(f, lane, from, n, got, wait, err);
            memcpy(out + before, from, *got - before);
            lane->header_served += *got - before;
            if (lane->header_served == FRAME_HEADER_SIZE)
                lane->header_used = lane->header_served = 0;
        } else {
            n = lane->payload_left < missing ? (size_t)lane->payload_left : missing;
            size_t here = 0;
            rc = receive_inner(f, out + *got, n, &here, wait, err);
            lane->payload_left -= here;
            const int moved = move(f, lane, out + *got, here, got, wait, rc < 0 ? NULL : err);
            rc = rc < 0 ? rc : moved;
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void fault_shutdown(struct link *link)
{
    struct fault_link *f = (struct fault_link *)link;
    pthread_mutex_lock(&f->lock);
    f->down = true;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
    link_shutdown(f->inner);
}

static void fault_destroy(struct link *link)
{
    struct fault_link *f = (struct fault_link *)link;
    link_destroy(&f->inner);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->changed);
    free(f);
}

static int fault_establish(struct link *link, const struct link_wait *wait,
                           struct link_security *out, struct error *err)
{
    struct fault_link *f = (struct fault_link *)link;
    link_set_deadline(f->inner, wait->deadline);
    const int rc = link_establish(f->inner, err);
    link_set_deadline(f->inner, 0);
    *out = *link_security(f->inner);
    return rc;
}

static const struct link_ops fault_ops = {
    .establish = fault_establish,
    .send = fault_send,
    .receive = fault_receive,
    .shutdown = fault_shutdown,
    .destroy = fault_destroy,
};

/* --- for the tests --- */

struct link *fault_link_wrap(struct link **inner, uint64_t seed)
{
    struct fault_link *f = calloc(1, sizeof(*f));
    if (!f)
        abort();
    f->inner = *inner;
    *inner = NULL;
    f->random = seed ? seed : 1;
    f->send_lane.direction = FAULT_SEND;
    f->receive_lane.direction = FAULT_RECEIVE;
    pthread_mutex_init(&f->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&f->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    link_init(&f->link, &fault_ops, link_peer_name(f->inner));
    f->link.established = f->inner->established;
    return &f->link;
}

void fault_link_add(struct link *link, struct fault_rule rule)
{
    struct fault_link *f = (struct fault_link *)link;
    pthread_mutex_lock(&f->lock);
    if (f->rule_count == FAULT_RULES_MAX)
        abort();
    f->rules[f->rule_count++] = rule;
    pthread_mutex_unlock(&f->lock);
}

void fault_link_set_hook(struct link *link, fault_hook *hook, void *context)
{
    struct fault_link *f = (struct fault_link *)link;
    f->hook = hook;
    f->hook_context = context;
}

void fault_link_cut(struct link *link)
{
    struct fault_link *f = (struct fault_link *)link;
    pthread_mutex_lock(&f->lock);
    cut_locked(f);
    pthread_mutex_unlock(&f->lock);
}

void fault_link_release(struct link *link)
{
    struct fault_link *f = (struct fault_link *)link;
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->rule_count; i++)
        if (f->rules[i].kind == FAULT_STALL)
            f->done[i] = true;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

bool fault_link_wait_stalled(struct link *link, unsigned timeout_ms)
{
    struct fault_link *f = (struct fault_link *)link;
    const nsec_t until = clock_now() + MSEC(timeout_ms);
    pthread_mutex_lock(&f->lock);
    while (!f->stalled && wait_changed(f, until)) {
    }
    const bool stalled = f->stalled > 0;
    pthread_mutex_unlock(&f->lock);
    return stalled;
}
