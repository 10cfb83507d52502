/* The control server under friendly, clumsy and hostile clients. */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "control/client.h"
#include "control/listen.h"
#include "test/support/control_fixture.h"
#include "test/support/runner.h"

#define PATIENCE    SEC(20)
#define OTHER_USER  65534
#define SOME_GROUP  54321
#define OTHER_GROUP 54322

static const struct control_request ping = {.verb = CONTROL_VERB_PING};

static struct control_client *connect_to(const struct control_fixture *f)
{
    struct control_client *client = NULL;
    struct error err = {0};
    if (control_client_connect(f->path, &client, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    return client;
}

/* A bare connection, for bytes that no client would send. */
static int connect_raw(const struct control_fixture *f)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", f->path);
    const struct timeval limit = {.tv_sec = 20};
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0)
        abort();
    return fd;
}

static int call(struct control_client *client, const struct control_request *request,
                struct control_reply *reply)
{
    struct error err = {0};
    return control_client_call(client, request, PATIENCE, reply, &err);
}

static void expect_alive(const struct control_fixture *f)
{
    struct control_reply reply;
    struct control_client *client = connect_to(f);
    CU_ASSERT_EQUAL(call(client, &ping, &reply), 0);
    CU_ASSERT_EQUAL(reply.kind, CONTROL_REPLY_PONG);
    control_client_close(&client);
}

static void every_request_gets_its_answer(void)
{
    struct control_fixture f;
    struct control_reply reply;
    control_fixture_start(&f, (gid_t)-1);
    struct control_client *client = connect_to(&f);
    CU_ASSERT_EQUAL(call(client, &ping, &reply), 0);
    CU_ASSERT_STRING_EQUAL(reply.vm, "web");
    CU_ASSERT_EQUAL(reply.pid, (uint32_t)getpid());
    CU_ASSERT_EQUAL(call(client, &(struct control_request){.verb = CONTROL_VERB_STATUS}, &reply),
                    0);
    CU_ASSERT_EQUAL(reply.kind, CONTROL_REPLY_STATUS);
    CU_ASSERT_TRUE(reply.status.protected);
    CU_ASSERT_EQUAL(
        call(client, &(struct control_request){.verb = CONTROL_VERB_GRANT, .term = 7}, &reply), 0);
    CU_ASSERT_EQUAL(reply.kind, CONTROL_REPLY_DONE);
    CU_ASSERT_STRING_EQUAL(reply.text, "term 7 is granted");
    CU_ASSERT_EQUAL(
        call(client, &(struct control_request){.verb = CONTROL_VERB_GRANT, .term = 6}, &reply), 0);
    CU_ASSERT_EQUAL(reply.kind, CONTROL_REPLY_REFUSED);
    CU_ASSERT_EQUAL(reply.code, -ESTALE);
    CU_ASSERT_EQUAL(call(client, &(struct control_request){.verb = CONTROL_VERB_DENY}, &reply), 0);
    CU_ASSERT_EQUAL(reply.code, -ENOENT);
    CU_ASSERT_EQUAL(call(client, &(struct control_request){0}, &reply), 0);
    CU_ASSERT_EQUAL(reply.code, -ENOSYS);
    control_client_close(&client);
    control_fixture_stop(&f);
}

static void *complete_failover(void *context)
{
    struct control_fixture *f = context;
    control_server_complete(f->server, control_fixture_wait_failover(f), 0, "handed over");
    return NULL;
}

static void a_request_may_be_completed_by_another_thread(void)
{
    struct control_fixture f;
    struct control_reply reply;
    pthread_t thread;
    control_fixture_start(&f, (gid_t)-1);
    struct control_client *client = connect_to(&f);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, complete_failover, &f), 0);
    CU_ASSERT_EQUAL(call(client, &(struct control_request){.verb = CONTROL_VERB_FAILOVER}, &reply),
                    0);
    CU_ASSERT_STRING_EQUAL(reply.text, "handed over");
    pthread_join(thread, NULL);
    control_client_close(&client);
    control_fixture_stop(&f);
}

static void a_completion_whose_client_has_left_is_ignored(void)
{
    static const uint8_t failover[] = {4, 0, 0, 0, 0x08, 1, 0x22, 0};
    struct control_fixture f;
    control_fixture_start(&f, (gid_t)-1);
    int fd = connect_raw(&f);
    CU_ASSERT_EQUAL(fd_write_all(fd, failover, sizeof(failover)), 0);
    const control_token_t token = control_fixture_wait_failover(&f);
    fd_close(&fd);
    expect_alive(&f);
    control_server_complete(f.server, token, 0, "too late");
    control_server_complete(f.server, token, 0, "twice");
    control_server_complete(f.server, token + 1000, 0, "never asked");
    control_server_complete(f.server, 0, 0, "nothing");
    expect_alive(&f);
    control_fixture_stop(&f);
}

/* Sends bytes and expects the server to hang up, and to serve others. */
static void expect_hang_up(const struct control_fixture *f, const void *bytes, size_t size)
{
    int fd = connect_raw(f);
    uint8_t byte;
    CU_ASSERT_EQUAL(fd_write_all(fd, bytes, size), 0);
    const ssize_t n = recv(fd, &byte, 1, 0);
    CU_ASSERT(n == 0 || (n < 0 && errno == ECONNRESET));
    fd_close(&fd);
    expect_alive(f);
}

static void garbage_closes_its_own_client_only(void)
{
    static const uint8_t zero[4] = {0};
    static const uint8_t huge[4] = {255, 255, 255, 255};
    static const uint8_t too_large[4] = {1, 0, 1, 0};
    static const uint8_t not_protobuf[] = {3, 0, 0, 0, 0xff, 0xff, 0xff};
    static const uint8_t no_version[] = {2, 0, 0, 0, 0x12, 0};
    static const char http[] = "GET / HTTP/1.1\r\n\r\n";
    struct control_fixture f;
    struct control_reply reply;
    control_fixture_start(&f, (gid_t)-1);
    struct control_client *bystander = connect_to(&f);
    expect_hang_up(&f, zero, sizeof(zero));
    expect_hang_up(&f, huge, sizeof(huge));
    expect_hang_up(&f, too_large, sizeof(too_large));
    expect_hang_up(&f, not_protobuf, sizeof(not_protobuf));
    expect_hang_up(&f, no_version, sizeof(no_version));
    expect_hang_up(&f, http, sizeof(http));
    CU_ASSERT_EQUAL(call(bystander, &ping, &reply), 0);
    control_client_close(&bystander);
    control_fixture_stop(&f);
}

static void another_version_is_refused_with_a_sentence(void)
{
    static const uint8_t newer[] = {4, 0, 0, 0, 0x08, 2, 0x12, 0};
    struct control_fixture f;
    uint8_t bytes[256];
    struct control_reply reply;
    control_fixture_start(&f, (gid_t)-1);
    int fd = connect_raw(&f);
    CU_ASSERT_EQUAL(fd_write_all(fd, newer, sizeof(newer)), 0);
    CU_ASSERT_EQUAL_FATAL(fd_read_all(fd, bytes, CONTROL_PREFIX_SIZE), 0);
    const size_t length = control_frame_length(bytes, sizeof(bytes));
    CU_ASSERT_EQUAL_FATAL(fd_read_all(fd, bytes, length), 0);
    CU_ASSERT_EQUAL(control_reply_decode(bytes, length, &reply, NULL), 0);
    CU_ASSERT_EQUAL(reply.code, -EPROTONOSUPPORT);
    CU_ASSERT_EQUAL(recv(fd, bytes, 1, 0), 0);
    fd_close(&fd);
    control_fixture_stop(&f);
}

static void half_a_request_waits_and_two_at_once_are_both_answered(void)
{
    static const uint8_t two_pings[] = {4, 0, 0, 0, 0x08, 1, 0x12, 0, 4, 0, 0, 0, 0x08, 1, 0x12, 0};
    struct control_fixture f;
    uint8_t bytes[256];
    control_fixture_start(&f, (gid_t)-1);
    int fd = connect_raw(&f);
    CU_ASSERT_EQUAL(fd_write_all(fd, two_pings, 3), 0);
    expect_alive(&f);
    CU_ASSERT_EQUAL(fd_write_all(fd, two_pings + 3, 3), 0);
    expect_alive(&f);
    CU_ASSERT_EQUAL(fd_write_all(fd, two_pings + 6, sizeof(two_pings) - 6), 0);
    for (int i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL_FATAL(fd_read_all(fd, bytes, CONTROL_PREFIX_SIZE), 0);
        const size_t length = control_frame_length(bytes, sizeof(bytes));
        CU_ASSERT_EQUAL_FATAL(fd_read_all(fd, bytes, length), 0);
    }
    fd_close(&fd);
    control_fixture_stop(&f);
}

static void one_client_too_many_is_told_so(void)
{
    struct control_fixture f;
    struct control_reply reply;
    control_fixture_start(&f, (gid_t)-1);
    struct control_client *clients[CONTROL_CLIENTS_MAX];
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        clients[i] = connect_to(&f);
        CU_ASSERT_EQUAL(call(clients[i], &ping, &reply), 0);
    }
    struct control_client *late = connect_to(&f);
    CU_ASSERT_EQUAL(call(late, &ping, &reply), 0);
    CU_ASSERT_EQUAL(reply.kind, CONTROL_REPLY_REFUSED);
    CU_ASSERT_EQUAL(reply.code, -EBUSY);
    CU_ASSERT_STRING_EQUAL(reply.text, "too many clients are connected");
    control_client_close(&late);
    CU_ASSERT_EQUAL(call(clients[0], &ping, &reply), 0);
    control_client_close(&clients[1]);
    /* The place is free once the server has seen the end of that connection. */
    const nsec_t deadline = clock_now() + PATIENCE;
    do {
        late = connect_to(&f);
        CU_ASSERT_EQUAL(call(late, &ping, &reply), 0);
        control_client_close(&late);
    } while (reply.kind != CONTROL_REPLY_PONG && clock_now() < deadline);
    CU_ASSERT_EQUAL(reply.kind, CONTROL_REPLY_PONG);
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
        control_client_close(&clients[i]);
    control_fixture_stop(&f);
}

static void events_are_given_as_kept_and_followed_as_they_come(void)
{
    struct control_fixture f;
    struct control_reply reply;
    struct error err = {0};
    control_fixture_start(&f, (gid_t)-1);
    for (int i = 1; i <= 3; i++)
        control_events_note(f.events, CONTROL_INFO, "test", "%d", i);
    struct control_client *client = connect_to(&f);
    struct control_request request = {.verb = CONTROL_VERB_EVENTS, .since = 1};
    CU_ASSERT_EQUAL(call(client, &request, &reply), 0);
    CU_ASSERT_EQUAL(reply.event.id, 2);
    CU_ASSERT_EQUAL(control_client_next(client, PATIENCE, &reply, &err), 0);
    CU_ASSERT_STRING_EQUAL(reply.event.text, "3");
    CU_ASSERT_EQUAL(control_client_next(client, PATIENCE, &reply, &err), 0);
    CU_ASSERT_EQUAL(reply.kind, CONTROL_REPLY_END_OF_EVENTS);
    CU_ASSERT_EQUAL(reply.last_id, 3);
    /* The same connection goes on, now as a follower. */
    request = (struct control_request){.verb = CONTROL_VERB_EVENTS, .since = 2, .follow = true};
    CU_ASSERT_EQUAL(call(client, &request, &reply), 0);
    CU_ASSERT_EQUAL(reply.event.id, 3);
    for (uint64_t id = 4; id < 10; id++) {
        control_events_note(f.events, CONTROL_INFO, "test", "more");
        CU_ASSERT_EQUAL(control_client_next(client, PATIENCE, &reply, &err), 0);
        CU_ASSERT_EQUAL(reply.event.id, id);
    }
    control_client_close(&client);
    control_fixture_stop(&f);
}

static void a_follower_that_does_not_read_is_dropped(void)
{
    char text[CONTROL_EVENT_TEXT_MAX];
    struct control_fixture f;
    struct control_reply reply;
    struct error err = {0};
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    control_fixture_start(&f, (gid_t)-1);
    control_events_note(f.events, CONTROL_INFO, "test", "first");
    struct control_client *lazy = connect_to(&f);
    struct control_client *other = connect_to(&f);
    const struct control_request follow = {.verb = CONTROL_VERB_EVENTS, .follow = true};
    CU_ASSERT_EQUAL(call(lazy, &follow, &reply), 0);
    /* More than the socket, the output buffer and the ring hold together. The ping lets the server
     * take its turn, so that nobody is dropped for being fast. */
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < FIXTURE_EVENTS / 2; i++)
            control_events_note(f.events, CONTROL_INFO, "test", "%s", text);
        CU_ASSERT_EQUAL(call(other, &ping, &reply), 0);
    }
    uint64_t seen = 1;
    int rc;
    while ((rc = control_client_next(lazy, PATIENCE, &reply, &err)) == 0) {
        CU_ASSERT_EQUAL(reply.event.id, seen + 1);
        seen = reply.event.id;
    }
    CU_ASSERT_EQUAL(rc, -ECONNRESET);
    CU_ASSERT(seen < control_events_last(f.events));
    control_client_close(&lazy);
    control_client_close(&other);
    control_fixture_stop(&f);
}

static int create_second(const char *path, struct error *err)
{
    struct control_fixture f = {.events = control_events_create(1)};
    struct event_base *base = event_base_new();
    const struct control_server_config config = {
        .path = path, .group = (gid_t)-1, .vm = "second", .events = f.events};
    struct control_server *server = NULL;
    const int rc = control_server_create(base, &config, &server, err);
    control_server_destroy(&server);
    event_base_free(base);
    control_events_destroy(&f.events);
    return rc;
}

static void a_socket_that_is_served_is_not_taken_over(void)
{
    struct control_fixture f;
    struct error err = {0};
    char sentence[160];
    control_fixture_start(&f, (gid_t)-1);
    CU_ASSERT_EQUAL(create_second(f.path, &err), -EADDRINUSE);
    snprintf(sentence, sizeof(sentence), "another kemarid already serves %s", f.path);
    CU_ASSERT_STRING_EQUAL(err.text, sentence);
    expect_alive(&f);
    control_fixture_stop(&f);
    CU_ASSERT_EQUAL(access(f.path, F_OK), -1);
}

static void what_a_dead_daemon_left_is_replaced_but_nothing_else(void)
{
    char directory[] = "/tmp/kemari-stale-XXXXXX";
    char path[128], deep[128];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct error err = {0};
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/a.sock", directory);
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    fd_close(&fd);
    CU_ASSERT_EQUAL(create_second(path, &err), 0);
    CU_ASSERT_EQUAL(access(path, F_OK), -1);

    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    fd_close(&fd);
    CU_ASSERT_EQUAL(create_second(path, &err), -EADDRINUSE);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "the file exists and is not a socket"));
    CU_ASSERT_EQUAL(access(path, F_OK), 0);
    unlink(path);

    snprintf(deep, sizeof(deep), "%s/new/a.sock", directory);
    CU_ASSERT_EQUAL(create_second(deep, &err), 0);
    snprintf(deep, sizeof(deep), "%s/new", directory);
    CU_ASSERT_EQUAL(rmdir(deep), 0);
    snprintf(deep, sizeof(deep), "%s/not/there/a.sock", directory);
    CU_ASSERT_EQUAL(create_second(deep, &err), -ENOENT);
    CU_ASSERT_EQUAL(rmdir(directory), 0);
}

static void a_socket_that_is_gone_is_made_anew(void)
{
    struct control_fixture f;
    struct control_reply reply;
    struct error err = {0};
    control_fixture_start(&f, (gid_t)-1);
    struct control_client *old = connect_to(&f);
    CU_ASSERT_EQUAL(call(old, &ping, &reply), 0);
    control_fixture_pause(&f);
    CU_ASSERT_EQUAL(control_server_renew(f.server, &err), 0);
    CU_ASSERT_EQUAL(unlink(f.path), 0);
    CU_ASSERT_EQUAL(control_server_renew(f.server, &err), 1);
    struct stat st;
    CU_ASSERT_EQUAL(stat(f.path, &st), 0);
    CU_ASSERT_EQUAL(st.st_mode & 07777, 0660);
    CU_ASSERT_EQUAL(control_server_renew(f.server, &err), 0);
    control_fixture_resume(&f);
    expect_alive(&f);
    CU_ASSERT_EQUAL(call(old, &ping, &reply), 0);
    control_client_close(&old);
    /* What stands in its place now is not touched. */
    control_fixture_pause(&f);
    CU_ASSERT_EQUAL(unlink(f.path), 0);
    int fd = open(f.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    fd_close(&fd);
    CU_ASSERT_EQUAL(control_server_renew(f.server, &err), 0);
    CU_ASSERT_EQUAL(unlink(f.path), 0);
    control_fixture_resume(&f);
    control_fixture_stop(&f);
}

static void a_server_removes_its_own_socket_only(void)
{
    struct control_fixture f;
    control_fixture_start(&f, (gid_t)-1);
    CU_ASSERT_EQUAL(unlink(f.path), 0);
    int fd = open(f.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    fd_close(&fd);
    const char *path = strdupa(f.path);
    const ino_t other = control_socket_inode(path);
    control_unlisten(path, other + 1);
    CU_ASSERT_EQUAL(access(path, F_OK), 0);
    control_unlisten(path, other);
    CU_ASSERT_EQUAL(access(path, F_OK), -1);
    control_fixture_stop(&f);
}

/* What a process of that user and groups gets from a ping: 0, or the errno of the refusal. */
static int ask_as(const struct control_fixture *f, uid_t user, gid_t group, gid_t supplementary)
{
    const pid_t child = fork();
    if (child == 0) {
        struct control_client *client = NULL;
        struct control_reply reply;
        if (setgroups(1, &supplementary) < 0 || setresgid(group, group, group) < 0 ||
            setresuid(user, user, user) < 0)
            _exit(255);
        int rc = control_client_connect(f->path, &client, NULL);
        if (rc == 0)
            rc = control_client_call(client, &ping, PATIENCE, &reply, NULL);
        if (rc == 0 && reply.kind == CONTROL_REPLY_REFUSED)
            rc = reply.code;
        _exit(-rc);
    }
    int status = 0;
    CU_ASSERT_EQUAL(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void only_root_and_the_group_may_ask(void)
{
    struct control_fixture f;
    control_fixture_start(&f, SOME_GROUP);
    struct stat st;
    CU_ASSERT_EQUAL(stat(f.path, &st), 0);
    CU_ASSERT_EQUAL(st.st_mode & 07777, 0660);
    CU_ASSERT_EQUAL(st.st_gid, SOME_GROUP);
    CU_ASSERT_EQUAL(ask_as(&f, 0, 0, OTHER_GROUP), 0);
    CU_ASSERT_EQUAL(ask_as(&f, OTHER_USER, SOME_GROUP, OTHER_GROUP), 0);
    CU_ASSERT_EQUAL(ask_as(&f, OTHER_USER, OTHER_GROUP, SOME_GROUP), 0);
    CU_ASSERT_EQUAL(ask_as(&f, OTHER_USER, OTHER_GROUP, OTHER_GROUP), EACCES);
    /* Credentials count, not only the mode of the file. */
    CU_ASSERT_EQUAL(chmod(f.path, 0666), 0);
    CU_ASSERT_EQUAL(ask_as(&f, OTHER_USER, OTHER_GROUP, OTHER_GROUP), EPERM);
    expect_alive(&f);
    control_fixture_stop(&f);
}

static void stop_is_answered_before_the_daemon_ends(void)
{
    struct control_fixture f;
    struct control_reply reply;
    control_fixture_start(&f, (gid_t)-1);
    struct control_client *client = connect_to(&f);
    CU_ASSERT_EQUAL(call(client, &(struct control_request){.verb = CONTROL_VERB_STOP}, &reply), 0);
    CU_ASSERT_STRING_EQUAL(reply.text, "the guest is stopped");
    control_client_close(&client);
    control_fixture_stop(&f);
}

static const struct test_case cases[] = {
    {"every request gets its answer", every_request_gets_its_answer},
    {"a request may be completed by another thread", a_request_may_be_completed_by_another_thread},
    {"a completion whose client has left is ignored",
     a_completion_whose_client_has_left_is_ignored},
    {"garbage closes its own client only", garbage_closes_its_own_client_only},
    {"another version is refused with a sentence", another_version_is_refused_with_a_sentence},
    {"half a request waits and two at once are both answered",
     half_a_request_waits_and_two_at_once_are_both_answered},
    {"one client too many is told so", one_client_too_many_is_told_so},
    {"events are given as kept and followed as they come",
     events_are_given_as_kept_and_followed_as_they_come},
    {"a follower that does not read is dropped", a_follower_that_does_not_read_is_dropped},
    {"a socket that is served is not taken over", a_socket_that_is_served_is_not_taken_over},
    {"what a dead daemon left is replaced but nothing else",
     what_a_dead_daemon_left_is_replaced_but_nothing_else},
    {"a socket that is gone is made anew", a_socket_that_is_gone_is_made_anew},
    {"a server removes its own socket only", a_server_removes_its_own_socket_only},
    {"only root and the group may ask", only_root_and_the_group_may_ask},
    {"stop is answered before the daemon ends", stop_is_answered_before_the_daemon_ends},
};

int main(int argc, char **argv)
{
    if (geteuid() != 0)
        test_skip("not root: cannot take the identity of other users");
    return test_run(argc, argv, "control-server", cases, ARRAY_SIZE(cases));
}
