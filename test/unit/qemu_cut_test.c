/* How a state is had from a QEMU whose answers are known beforehand (qemu/cut.c). */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "qemu/internal.h"
#include "qemu/stream.h"
#include "test/support/runner.h"

#define GREETING "{\"QMP\": {}}\n{\"return\": {}}\n"
#define RETURN   "{\"return\": {}}\n"
#define REFUSAL  "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\n"
#define MIGRATION(status)                                                                          \
    "{\"event\": \"MIGRATION\", \"data\": {\"status\": \"" status "\"}, \"timestamp\": {}}\n"

/* A machine with memory of its own, of which there are two connections and a file. */
struct side {
    struct qemu_machine machine;
    int control, saver; /* QEMU's ends */
};

static void on_event(void *context, const char *name, const json_t *data)
{
    struct qemu_session *s = context;
    const char *status = json_string_value(json_object_get(data, "status"));
    CU_ASSERT_STRING_EQUAL(name, "MIGRATION");
    CU_ASSERT_PTR_NOT_NULL_FATAL(status);
    session_note_migration(s, status);
}

static void on_saver_event(void *context, const char *name, const json_t *data)
{
    (void)context, (void)name, (void)data;
}

static void say(int fd, const char *text)
{
    CU_ASSERT_EQUAL_FATAL(fd_write_all(fd, text, strlen(text)), 0);
}

/* A connection: an event comes on all of them. */
static int connect_to(struct qemu_session *s, struct qmp **qmp,
                      void (*event)(void *context, const char *name, const json_t *data))
{
    struct error err = {0};
    int ends[2];
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    CU_ASSERT_EQUAL_FATAL(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    say(ends[1], GREETING);
    const struct qmp_config config = {.fd = ends[0], .event = event, .context = s};
    CU_ASSERT_EQUAL_FATAL(qmp_open(&config, qmp, &err), 0);
    return ends[1];
}

static void begin(struct side *side)
{
    memset(side, 0, sizeof(*side));
    struct qemu_session *s = &side->machine.session;
    side->control = connect_to(s, &s->control, on_event);
    side->saver = connect_to(s, &s->saver, on_saver_event);
    s->saved_fd = memfd_create("state", MFD_CLOEXEC);
    s->blocks = (struct ram_blocks){.own = true, .count = 1, .names = {"vram"}};
    side->machine.buffer = malloc(STREAM_MAX);
    CU_ASSERT_PTR_NOT_NULL_FATAL(side->machine.buffer);
}

static void end(struct side *side)
{
    qmp_close(&side->machine.session.control);
    qmp_close(&side->machine.session.saver);
    fd_close(&side->machine.session.saved_fd);
    fd_close(&side->control);
    fd_close(&side->saver);
    free(side->machine.buffer);
}

/* What QEMU was asked since the last time; with the file it got, or -1. */
static int hear(const struct side *side, char *text, size_t size)
{
    struct iovec part = {text, size - 1};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    int fd = -1;
    size_t used = 0;
    for (;;) {
        struct msghdr message = {.msg_iov = &part,
                                 .msg_iovlen = 1,
                                 .msg_control = control.room,
                                 .msg_controllen = sizeof(control.room)};
        part = (struct iovec){text + used, size - 1 - used};
        const ssize_t count = recvmsg(side->saver, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (count <= 0)
            break;
        used += (size_t)count;
        const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        if (header && header->cmsg_type == SCM_RIGHTS)
            memcpy(&fd, CMSG_DATA(header), sizeof(fd));
    }
    text[used] = '\0';
    return fd;
}

/* The parts of memory with one block, and a device's. */
static const uint8_t state[] = {
    'Q', 'E', 'V', 'M', 0,   0, 0,    3,                                           /* header */
    1,   0,   0,   0,   2,   3, 'r',  'a',  'm',  0, 0, 0,    0,    0,    0, 0, 4, /* section 2 */
    0,   0,   0,   0,   0,   0, 0x10, 4,                         /* a page in all */
    4,   'v', 'r', 'a', 'm', 0, 0,    0,    0,    0, 0, 0x10, 0, /* in one block */
    0,   0,   0,   0,   0,   0, 0,    0,                         /* at 0 */
    0,   0,   0,   0,   0,   0, 0,    0x10, 0x7e, 0, 0, 0,    2, /* end */
    3,   0,   0,   0,   2,   0, 0,    0,    0,    0, 0, 0,    0x10, 0x7e, 0, 0, 0,
    2,                                                                 /* nothing more */
    4,   0,   0,   0,   9,   1, 'c',  1,    0x7e, 0, 0, 0,    9,    0, /* a device, end */
};

static void a_state_is_had_and_kept_until_the_guest_runs(void)
{
    struct side side;
    struct error err = {0};
    char text[1024];
    size_t size = 0;
    begin(&side);
    struct qemu_machine *m = &side.machine;
    hear(&side, text, sizeof(text));
    CU_ASSERT_EQUAL_FATAL(cut_ask(m, &err), 0);
    CU_ASSERT_TRUE(m->saving);
    int fd = hear(&side, text, sizeof(text));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"getfd\""));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"migrate\""));
    CU_ASSERT_EQUAL_FATAL(write(fd, state, sizeof(state)), (ssize_t)sizeof(state));
    fd_close(&fd);
    say(side.saver, RETURN MIGRATION("setup") RETURN MIGRATION("active") MIGRATION("completed"));
    say(side.control, MIGRATION("setup") MIGRATION("active") MIGRATION("completed"));
    CU_ASSERT_EQUAL_FATAL(cut_end(m, &err), 0);
    CU_ASSERT_EQUAL_FATAL(cut_read(m, &size, &err), 0);
    CU_ASSERT_EQUAL_FATAL(size, sizeof(state));
    CU_ASSERT_EQUAL(memcmp(m->buffer, state, size), 0);
    /* Once more, of which QEMU isn't asked. */
    memset(m->buffer, 0, size);
    CU_ASSERT_EQUAL_FATAL(cut_ask(m, &err), 0);
    CU_ASSERT_EQUAL_FATAL(cut_end(m, &err), 0);
    CU_ASSERT_EQUAL_FATAL(cut_read(m, &size, &err), 0);
    CU_ASSERT_EQUAL(memcmp(m->buffer, state, sizeof(state)), 0);
    CU_ASSERT_FALSE(m->saving);
    hear(&side, text, sizeof(text));
    CU_ASSERT_STRING_EQUAL(text, "");
    /* A shorter one over it, for which the file was handed over before. */
    m->session.kept = false;
    say(side.saver, RETURN);
    CU_ASSERT_EQUAL_FATAL(cut_prepare(m, &err), 0);
    fd = hear(&side, text, sizeof(text));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"getfd\""));
    CU_ASSERT_EQUAL_FATAL(cut_ask(m, &err), 0);
    int none = hear(&side, text, sizeof(text));
    CU_ASSERT_STRING_EQUAL(text, "}");
    CU_ASSERT_EQUAL(none, -1);
    CU_ASSERT_EQUAL(write(fd, state, 5), 5);
    fd_close(&fd);
    say(side.control, MIGRATION("completed"));
    say(side.saver, MIGRATION("completed") RETURN);
    CU_ASSERT_EQUAL_FATAL(cut_end(m, &err), 0);
    CU_ASSERT_EQUAL(cut_read(m, &size, &err), -EBADMSG);
    end(&side);
}

static void a_migration_that_fails_leaves_a_guest_that_can_run(void)
{
    static const struct {
        const char *answers, *events, *text;
    } cases[] = {
        {RETURN RETURN, MIGRATION("active") MIGRATION("failed"), "the migration failed"},
        {RETURN RETURN, MIGRATION("cancelled"), "the migration failed"},
        {RETURN REFUSAL, "", "QEMU refuses: no"},
        {REFUSAL REFUSAL, "", "QEMU refuses: no"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct side side;
        struct error err = {0};
        begin(&side);
        CU_ASSERT_EQUAL_FATAL(cut_ask(&side.machine, &err), 0);
        say(side.saver, cases[i].answers);
        say(side.control, cases[i].events);
        CU_ASSERT_EQUAL(cut_end(&side.machine, &err), -EIO);
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, cases[i].text));
        CU_ASSERT_FALSE(side.machine.saving);
        CU_ASSERT_FALSE(side.machine.session.kept);
        /* The next commands get their own answers. */
        say(side.control, RETURN);
        say(side.saver, RETURN);
        CU_ASSERT_EQUAL(qmp_call(side.machine.session.control, "cont", NULL, NULL, SEC(1), &err),
                        0);
        CU_ASSERT_EQUAL(cut_prepare(&side.machine, &err), 0);
        CU_ASSERT_TRUE(side.machine.session.handed);
        end(&side);
    }
}

static void a_QEMU_that_ends_meanwhile_is_told(void)
{
    static const char *const answers[] = {"", RETURN, RETURN RETURN};
    for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
        struct side side;
        struct error err = {0};
        begin(&side);
        CU_ASSERT_EQUAL_FATAL(cut_ask(&side.machine, &err), 0);
        say(side.saver, answers[i]);
        CU_ASSERT_EQUAL_FATAL(shutdown(side.saver, SHUT_WR), 0);
        CU_ASSERT_EQUAL_FATAL(shutdown(side.control, SHUT_WR), 0);
        CU_ASSERT_EQUAL(cut_end(&side.machine, &err), -ECONNRESET);
        end(&side);
    }
}

static void memory_that_QEMU_does_not_save_is_named(void)
{
    static const struct {
        const char *block;
        bool saved;
        int rc;
        const char *text;
    } cases[] = {
        {"vram", true, 0, ""},
        {"mmaps", true, -ENOTSUP, "RAM block mmaps"},
        {"vram", false, -ENOTSUP, "can't give a state"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct side side;
        struct error err = {0};
        begin(&side);
        strcpy(side.machine.session.blocks.names[0], cases[i].block);
        const int fd = side.machine.session.saved_fd;
        say(side.saver, RETURN REFUSAL);
        /* As if it had been asked before. */
        if (cases[i].saved) {
            CU_ASSERT_EQUAL_FATAL(write(fd, state, sizeof(state)), (ssize_t)sizeof(state));
            side.machine.session.kept = true;
        }
        CU_ASSERT_EQUAL(cut_try(&side.machine, &err), cases[i].rc);
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, cases[i].text));
        end(&side);
    }
}

static const struct test_case cases[] = {
    {"a state is had and kept until the guest runs", a_state_is_had_and_kept_until_the_guest_runs},
    {"a migration that fails leaves a guest that can run",
     a_migration_that_fails_leaves_a_guest_that_can_run},
    {"a QEMU that ends meanwhile is told", a_QEMU_that_ends_meanwhile_is_told},
    {"memory that QEMU does not save is named", memory_that_QEMU_does_not_save_is_named},
};

TEST_MAIN("qemu-cut", cases)
