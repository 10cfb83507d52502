#include "disk/nbd_server.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/prompt.h"
#include "disk/nbd_wire.h"

/* Of one connection: taken and not yet answered. */
#define WORKS_MAX       128u
#define DATA_MAX        ((size_t)8 << 20)

#define REPLIES_AT_ONCE 16

/* One request, from its header to the last byte of its reply. */
struct work {
    struct nbd_server *server;
    struct nbd_request asked;
    struct disk_request request;
    size_t data_size; /* of request.io.data when it was made */
    uint8_t header[NBD_REPLY_SIZE];
    size_t sent; /* of the reply */
    struct work *next;
};

struct list {
    struct work *first, *last;
};

/* What is being read. */
enum phase { PHASE_FLAGS, PHASE_OPTION, PHASE_OPTION_DATA, PHASE_REQUEST, PHASE_PAYLOAD };

struct nbd_server {
    /* set at creation */
    struct nbd_server_config config;
    char name[16];
    struct nbd_export export;
    int wake_fd; /* eventfd: the done list isn't empty */
    pthread_t thread;
    _Atomic bool running;

    /* its thread's */
    bool ended; /* nothing is read or written any more */
    enum phase phase;
    uint8_t *into; /* the next part, of `want` bytes, `have` of which are there */
    size_t want, have;
    uint8_t bytes[NBD_OPTION_DATA_MAX];
    struct nbd_option option;
    struct work *incoming;        /* its payload is being read */
    uint8_t talk[NBD_ANSWER_MAX]; /* of the negotiation, going out */
    size_t talk_size, talk_sent;
    struct list replies;    /* likewise, of requests */
    _Atomic unsigned works; /* all of them */
    size_t data;            /* bytes of theirs */

    pthread_mutex_t lock; /* protects all below */
    struct list done;     /* by the volume */
};

static void append(struct list *list, struct work *w)
{
    w->next = NULL;
    if (list->last)
        list->last->next = w;
    else
        list->first = w;
    list->last = w;
}

static struct work *take_first(struct list *list)
{
    struct work *w = list->first;
    list->first = w->next;
    if (!list->first)
        list->last = NULL;
    return w;
}

/* ---- requests ---- */

static struct work *add_work(struct nbd_server *s, const struct nbd_request *asked)
{
    struct work *w = calloc(1, sizeof(*w));
    void *data = NULL;
    const bool reads = asked->error == NBD_OK && asked->op == DISK_READ;
    const size_t size = asked->payload ? asked->payload : reads ? asked->size : 0;
    /* A request without an end would hang the guest for ever. */
    if (!w || (size && posix_memalign(&data, DISK_SECTOR, size) != 0))
        abort();
    w->server = s;
    w->data_size = size;
    w->asked = *asked;
    w->request.io.data = data;
    s->works++;
    s->data += w->data_size;
    return w;
}

static void free_work(struct work *w)
{
    w->server->works--;
    w->server->data -= w->data_size;
    free(w->request.io.data); /* NULL when the mode kept it */
    free(w);
}

static void on_done(struct disk_request *request)
{
    const uint64_t one = 1;
    struct work *w = request->context;
    struct nbd_server *s = w->server;
    pthread_mutex_lock(&s->lock);
    append(&s->done, w);
    /* Inside of the lock: the server goes when all is done. */
    if (s->done.first == w && write(s->wake_fd, &one, sizeof(one)) < 0)
        abort();
    pthread_mutex_unlock(&s->lock);
}

static void reply(struct work *w, enum nbd_error error)
{
    w->asked.error = error;
    nbd_encode_reply(w->asked.cookie, error, w->header);
    append(&w->server->replies, w);
}

static void submit(struct work *w, struct disk_io io)
{
    w->request = (struct disk_request){.io = io, .done = on_done, .context = w};
    disk_volume_submit(w->server->config.volume, &w->request);
}

/* What is answered without the volume. */
static bool answer_alone(struct work *w)
{
    struct nbd_server *s = w->server;
    const struct nbd_request *asked = &w->asked;
    if (asked->error != NBD_OK) {
        reply(w, asked->error);
    } else if (asked->op == DISK_READ) {
        if (!s->config.volume)
            reply(w, NBD_EIO);
        return !s->config.volume;
    } else if (atomic_load(&s->running)) {
        return false;
    } else if (asked->op == DISK_FLUSH) {
        if (s->config.rung)
            s->config.rung(s->config.context);
        reply(w, NBD_OK);
    } else {
        log_error("disk", "%s: a change by a machine that does not run was refused", s->name);
        reply(w, NBD_EPERM);
    }
    return true;
}

static void begin(struct work *w)
{
    const struct nbd_request *asked = &w->asked;
    if (answer_alone(w))
        return;
    submit(w, (struct disk_io){.op = asked->op,
                               .may_unmap = asked->may_unmap,
                               .offset = asked->offset,
                               .size = asked->size,
                               .data = w->request.io.data});
}

/* A change that has to be durable is followed by a flush, as the guest would do it, so that the
 * other host's copy gets the same. */
static void take_up(struct work *w)
{
    const int result = w->request.io.result;
    if (result == 0 && w->asked.fua) {
        w->asked.fua = false;
        free(w->request.io.data);
        submit(w, (struct disk_io){.op = DISK_FLUSH});
        return;
    }
    reply(w, nbd_error_of(result));
}

static void take_done(struct nbd_server *s)
{
    uint64_t count;
    if (read(s->wake_fd, &count, sizeof(count)) < 0)
        return;
    pthread_mutex_lock(&s->lock);
    struct list done = s->done;
    s->done = (struct list){0};
    pthread_mutex_unlock(&s->lock);
    while (done.first)
        take_up(take_first(&done));
}

/* ---- writing ---- */

static bool has_output(const struct nbd_server *s)
{
    return s->talk_sent < s->talk_size || s->replies.first;
}

static void add_part(struct msghdr *message, const uint8_t *bytes, size_t size, size_t *skip)
{
    const size_t skipped = *skip < size ? *skip : size;
    *skip -= skipped;
    if (size > skipped)
        message->msg_iov[message->msg_iovlen++] =
            (struct iovec){(void *)(uintptr_t)(bytes + skipped), size - skipped};
}

static size_t reply_data(const struct work *w)
{
    return w->asked.error == NBD_OK && w->asked.op == DISK_READ ? w->data_size : 0;
}

/* What was taken of the replies by the socket. */
static void forget_sent(struct nbd_server *s, size_t count)
{
    while (s->replies.first) {
        struct work *w = s->replies.first;
        const size_t left = NBD_REPLY_SIZE + reply_data(w) - w->sent;
        if (count < left) {
            w->sent += count;
            return;
        }
        count -= left;
        free_work(take_first(&s->replies));
    }
}

/* 0, -EAGAIN when the socket is full, or -errno. */
static int write_some(struct nbd_server *s)
{
    struct iovec parts[2 * REPLIES_AT_ONCE];
    struct msghdr message = {.msg_iov = parts};
    const bool talk = s->talk_sent < s->talk_size;
    unsigned count = 0;
    if (talk)
        message.msg_iov[message.msg_iovlen++] =
            (struct iovec){s->talk + s->talk_sent, s->talk_size - s->talk_sent};
    for (const struct work *w = s->replies.first; !talk && w && count < REPLIES_AT_ONCE;
         w = w->next, count++) {
        size_t skip = w->sent;
        add_part(&message, w->header, NBD_REPLY_SIZE, &skip);
        add_part(&message, w->request.io.data, reply_data(w), &skip);
    }
    const ssize_t sent = sendmsg(s->config.fd, &message, MSG_NOSIGNAL);
    if (sent < 0)
        return errno == EINTR ? 0 : -errno;
    if (talk)
        s->talk_sent += (size_t)sent;
    else
        forget_sent(s, (size_t)sent);
    return 0;
}

/* ---- reading ---- */

static void expect(struct nbd_server *s, enum phase phase, uint8_t *into, size_t size)
{
    s->phase = phase;
    s->into = into;
    s->want = size;
    s->have = 0;
}

static void expect_request(struct nbd_server *s)
{
    expect(s, PHASE_REQUEST, s->bytes, NBD_REQUEST_SIZE);
}

/* -ECONNRESET when that ends the connection. */
static int on_option(struct nbd_server *s)
{
    const enum nbd_next next =
        nbd_answer_option(&s->option, s->bytes, &s->export, s->talk, &s->talk_size);
    s->talk_sent = 0;
    if (next == NBD_NEXT_OPTION)
        expect(s, PHASE_OPTION, s->bytes, NBD_OPTION_SIZE);
    else if (next == NBD_NEXT_REQUEST)
        expect_request(s);
    /* An end by agreement: the last word is said, if the other side still listens. */
    while (next == NBD_NEXT_END && has_output(s) && write_some(s) == 0)
        ;
    return next == NBD_NEXT_END ? -ECONNRESET : 0;
}

static int on_request(struct nbd_server *s, struct error *err)
{
    struct nbd_request asked;
    const int rc = nbd_decode_request(s->bytes, &s->export, &asked, err);
    if (rc < 0 || asked.ends)
        return rc < 0 ? rc : -ECONNRESET;
    struct work *w = add_work(s, &asked);
    if (asked.payload) {
        s->incoming = w;
        expect(s, PHASE_PAYLOAD, w->request.io.data, asked.payload);
    } else {
        begin(w);
        expect_request(s);
    }
    return 0;
}

/* All of what was expected is there. */
static int on_part(struct nbd_server *s, struct error *err)
{
    int rc = 0;
    switch (s->phase) {
    case PHASE_FLAGS:
        rc = nbd_decode_flags(s->bytes, err);
        expect(s, PHASE_OPTION, s->bytes, NBD_OPTION_SIZE);
        return rc;
    case PHASE_OPTION:
        rc = nbd_decode_option(s->bytes, &s->option, err);
        expect(s, PHASE_OPTION_DATA, s->bytes, s->option.size);
        return rc < 0 || s->option.size ? rc : on_option(s);
    case PHASE_OPTION_DATA:
        return on_option(s);
    case PHASE_REQUEST:
        return on_request(s, err);
    case PHASE_PAYLOAD:
        begin(s->incoming);
        s->incoming = NULL;
        expect_request(s);
        return 0;
    }
    return rc;
}

/* 0, -EAGAIN when nothing is there, -ECONNRESET at an orderly end, or what the other side did
 * wrong. */
static int read_some(struct nbd_server *s, struct error *err)
{
    const ssize_t count = recv(s->config.fd, s->into + s->have, s->want - s->have, 0);
    if (count == 0)
        return -ECONNRESET;
    if (count < 0)
        return errno == EINTR ? 0 : -errno;
    s->have += (size_t)count;
    return s->have < s->want ? 0 : on_part(s, err);
}

/* An answer is complete before the next option is read; requests wait when too much is under way.
 */
static bool may_read(const struct nbd_server *s)
{
    return s->talk_sent == s->talk_size &&
           (s->phase == PHASE_PAYLOAD || (s->works < WORKS_MAX && s->data < DATA_MAX));
}

/* ---- the thread ---- */

/* Everything that can be done without waiting. */
static int carry(struct nbd_server *s, struct error *err)
{
    int reading = 0, writing = 0;
    while (reading == 0 || (has_output(s) && writing == 0)) {
        take_done(s);
        writing = has_output(s) ? write_some(s) : 0;
        if (writing < 0 && writing != -EAGAIN)
            return writing;
        reading = may_read(s) ? read_some(s, err) : -EAGAIN;
        if (reading < 0 && reading != -EAGAIN)
            return reading;
    }
    return 0;
}

static void end_connection(struct nbd_server *s, int rc, const struct error *err)
{
    if (err->code)
        log_error("disk", "%s: the machine's connection ends: %s", s->name, err->text);
    else
        log_debug("disk", "%s: the machine's connection ends: %s", s->name, strerror(-rc));
    s->ended = true;
    shutdown(s->config.fd, SHUT_RDWR);
    if (s->incoming)
        free_work(s->incoming);
    s->incoming = NULL;
}

/* -ECONNRESET when nothing can be read that would tell so. */
static int wait_for_more(const struct nbd_server *s)
{
    const bool reads = may_read(s);
    struct pollfd fds[] = {
        {.fd = s->wake_fd, .events = POLLIN},
        {.fd = s->ended ? -1 : s->config.fd,
         .events = (short)((reads ? POLLIN : 0) | (has_output(s) ? POLLOUT : 0))}};
    if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
        assert(errno == EINTR);
    return !reads && fds[1].revents & (POLLHUP | POLLERR) ? -ECONNRESET : 0;
}

static void *thread_main(void *context)
{
    struct nbd_server *s = context;
    int rc = 0;
    prompt_thread("nbd");
    for (;;) {
        struct error err = {0};
        if (rc == 0 && !s->ended)
            rc = carry(s, &err);
        if (rc < 0 && !s->ended)
            end_connection(s, rc, &err);
        if (s->ended) {
            take_done(s);
            while (s->replies.first)
                free_work(take_first(&s->replies));
            if (s->works == 0)
                return NULL;
        }
        rc = wait_for_more(s);
    }
}

/* ---- life ---- */

static void describe(struct nbd_server *s)
{
    s->export = (struct nbd_export){.name = s->name, .size = DISK_SECTOR};
    if (!s->config.volume) {
        snprintf(s->name, sizeof(s->name), "bell");
        return;
    }
    const struct disk_image *image = disk_volume_image(s->config.volume);
    snprintf(s->name, sizeof(s->name), "disk%u", disk_volume_index(s->config.volume));
    s->export.size = disk_image_size(image);
    s->export.read_only = disk_image_is_read_only(image);
}

int nbd_server_open(const struct nbd_server_config *config, struct nbd_server **out,
                    struct error *err)
{
    struct nbd_server *s = calloc(1, sizeof(*s));
    *out = NULL;
    if (!s) {
        close(config->fd);
        return error_set(err, -ENOMEM, "NBD: out of memory");
    }
    s->config = *config;
    describe(s);
    nbd_encode_greeting(s->talk);
    s->talk_size = NBD_GREETING_SIZE;
    expect(s, PHASE_FLAGS, s->bytes, NBD_FLAGS_SIZE);
    pthread_mutex_init(&s->lock, NULL);
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = s->wake_fd < 0 || fcntl(s->config.fd, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
    if (rc == 0)
        rc = -pthread_create(&s->thread, NULL, thread_main, s);
    if (rc == 0) {
        *out = s;
        return 0;
    }
    fd_close(&s->wake_fd);
    fd_close(&s->config.fd);
    pthread_mutex_destroy(&s->lock);
    free(s);
    return error_set(err, rc, "NBD: %s", strerror(-rc));
}

void nbd_server_close(struct nbd_server **server)
{
    struct nbd_server *s = *server;
    if (!s)
        return;
    shutdown(s->config.fd, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    fd_close(&s->wake_fd);
    fd_close(&s->config.fd);
    pthread_mutex_destroy(&s->lock);
    free(s);
    *server = NULL;
}

void nbd_server_set_running(struct nbd_server *server, bool running)
{
    atomic_store(&server->running, running);
}

bool nbd_server_is_busy(const struct nbd_server *server)
{
    return atomic_load(&server->works) > 0;
}
