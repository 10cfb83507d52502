/* QMP over a socket pair, with this test as QEMU: what is sent when of a command. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "qemu/qmp.h"
#include "test/support/runner.h"

#define TIMEOUT SEC(20)

static int qemu; /* our end */

static void say(const char *line)
{
    CU_ASSERT_EQUAL_FATAL(write(qemu, line, strlen(line)), (ssize_t)strlen(line));
}

/* Everything that has come, and nothing else. */
static void expect(const char *text)
{
    char heard[512];
    const ssize_t size = recv(qemu, heard, sizeof(heard) - 1, MSG_DONTWAIT);
    heard[size > 0 ? size : 0] = '\0';
    CU_ASSERT_STRING_EQUAL(heard, text);
}

static void on_event(void *context, const char *name, const json_t *data)
{
    (void)context, (void)name, (void)data;
}

static struct qmp *connect_qmp(void)
{
    int ends[2];
    struct qmp *qmp = NULL;
    struct error err = {0};
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    CU_ASSERT_EQUAL_FATAL(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    qemu = ends[1];
    say("{\"QMP\": {\"capabilities\": []}}\n{\"return\": {}}\n");
    const struct qmp_config config = {.fd = ends[0], .event = on_event};
    CU_ASSERT_EQUAL_FATAL(qmp_open(&config, &qmp, &err), 0);
    expect("{\"execute\":\"qmp_capabilities\"}");
    return qmp;
}

static void disconnect(struct qmp **qmp)
{
    qmp_close(qmp);
    close(qemu);
}

static void a_prepared_command_lacks_its_last_byte(void)
{
    struct error err = {0};
    struct qmp *qmp = connect_qmp();
    CU_ASSERT_EQUAL(qmp_prepare(qmp, "save", json_pack("{s:s}", "to", "file"), &err), 0);
    expect("{\"execute\":\"save\",\"arguments\":{\"to\":\"file\"}");
    CU_ASSERT_EQUAL(qmp_send(qmp, "save", json_pack("{s:s}", "to", "file"), &err), 0);
    expect("}");
    say("{\"return\": {}}\n");
    CU_ASSERT_EQUAL(qmp_receive(qmp, NULL, TIMEOUT, &err), 0);
    /* It was for once. */
    CU_ASSERT_EQUAL(qmp_send(qmp, "stop", NULL, &err), 0);
    expect("{\"execute\":\"stop\"}");
    disconnect(&qmp);
}

static void what_is_prepared_can_wait_while_another_is_carried_out(void)
{
    struct error err = {0};
    struct qmp *qmp = connect_qmp();
    CU_ASSERT_EQUAL(qmp_send(qmp, "stop", NULL, &err), 0);
    CU_ASSERT_EQUAL(qmp_prepare(qmp, "cont", NULL, &err), 0);
    expect("{\"execute\":\"stop\"}{\"execute\":\"cont\"");
    say("{\"return\": {}}\n");
    CU_ASSERT_EQUAL(qmp_receive(qmp, NULL, TIMEOUT, &err), 0);
    CU_ASSERT_EQUAL(qmp_send(qmp, "cont", NULL, &err), 0);
    expect("}");
    disconnect(&qmp);
}

static void another_command_takes_it_back(void)
{
    struct error err = {0};
    struct qmp *qmp = connect_qmp();
    CU_ASSERT_EQUAL(qmp_prepare(qmp, "cont", NULL, &err), 0);
    say("{\"error\": {\"class\": \"GenericError\", \"desc\": \"unexpected\"}}\n");
    CU_ASSERT_EQUAL(qmp_send(qmp, "stop", NULL, &err), 0);
    expect("{\"execute\":\"cont\",\"withdrawn\":true}{\"execute\":\"stop\"}");
    say("{\"return\": {}}\n");
    CU_ASSERT_EQUAL(qmp_receive(qmp, NULL, TIMEOUT, &err), 0);
    /* And so does preparing another one. */
    CU_ASSERT_EQUAL(qmp_prepare(qmp, "cont", NULL, &err), 0);
    say("{\"error\": {\"class\": \"GenericError\", \"desc\": \"unexpected\"}}\n");
    CU_ASSERT_EQUAL(qmp_prepare(qmp, "stop", NULL, &err), 0);
    expect("{\"execute\":\"cont\",\"withdrawn\":true}{\"execute\":\"stop\"");
    disconnect(&qmp);
}

static void one_that_was_carried_out_all_the_same_is_an_error(void)
{
    struct error err = {0};
    struct qmp *qmp = connect_qmp();
    CU_ASSERT_EQUAL(qmp_prepare(qmp, "cont", NULL, &err), 0);
    say("{\"return\": {}}\n");
    CU_ASSERT_EQUAL(qmp_send(qmp, "stop", NULL, &err), -EPROTO);
    disconnect(&qmp);
}

static const struct test_case cases[] = {
    {"a prepared command lacks its last byte", a_prepared_command_lacks_its_last_byte},
    {"what is prepared can wait while another is carried out",
     what_is_prepared_can_wait_while_another_is_carried_out},
    {"another command takes it back", another_command_takes_it_back},
    {"one that was carried out all the same is an error",
     one_that_was_carried_out_all_the_same_is_an_error},
};

int main(int argc, char **argv)
{
    return test_run(argc, argv, "qmp", cases, ARRAY_SIZE(cases));
}
