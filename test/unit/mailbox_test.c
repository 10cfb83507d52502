/* The mailbox of a role's thread, and the process that lets a killed one's peer know at once. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mailbox.h"
#include "base/quick_exit.h"
#include "test/support/runner.h"

struct note {
    unsigned sender;
    unsigned number;
};

static void letters_come_in_order_and_time_runs_out(void)
{
    struct mailbox *mailbox;
    CU_ASSERT_EQUAL_FATAL(mailbox_create(sizeof(struct note), &mailbox, NULL), 0);
    struct note got = {9, 9};
    CU_ASSERT_FALSE(mailbox_wait(mailbox, &got, 0));
    CU_ASSERT_FALSE(mailbox_wait(mailbox, &got, INT64_MIN));
    CU_ASSERT_FALSE(mailbox_wait(mailbox, &got, clock_now() + MSEC(1)));
    CU_ASSERT_EQUAL(got.sender, 9);
    for (unsigned i = 0; i < 3; i++)
        mailbox_post(mailbox, &(struct note){.number = i});
    for (unsigned i = 0; i < 3; i++) {
        /* A letter that is here counts, even when time is over. */
        CU_ASSERT_TRUE(mailbox_wait(mailbox, &got, i % 2 ? 0 : INT64_MAX));
        CU_ASSERT_EQUAL(got.number, i);
    }
    CU_ASSERT_FALSE(mailbox_wait(mailbox, &got, 0));
    mailbox_post(mailbox, &(struct note){.number = 7});
    CU_ASSERT_TRUE(mailbox_wait(mailbox, &got, INT64_MAX));
    CU_ASSERT_EQUAL(got.number, 7);
    mailbox_post(mailbox, &got); /* nobody takes it */
    mailbox_destroy(&mailbox);
    CU_ASSERT_PTR_NULL(mailbox);
    mailbox_destroy(&mailbox);
}

#define SENDERS 4
#define LETTERS 2000

struct sender {
    pthread_t thread;
    struct mailbox *mailbox;
    unsigned number;
};

static void *sender_main(void *context)
{
    const struct sender *s = context;
    for (unsigned i = 1; i <= LETTERS; i++)
        mailbox_post(s->mailbox, &(struct note){.sender = s->number, .number = i});
    return NULL;
}

static void no_letter_of_many_senders_is_lost(void)
{
    struct sender senders[SENDERS];
    struct mailbox *mailbox;
    CU_ASSERT_EQUAL_FATAL(mailbox_create(sizeof(struct note), &mailbox, NULL), 0);
    for (unsigned i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.mailbox = mailbox, .number = i};
        pthread_create(&senders[i].thread, NULL, sender_main, &senders[i]);
    }
    unsigned last[SENDERS] = {0};
    bool ordered = true;
    for (unsigned i = 0; i < SENDERS * LETTERS; i++) {
        struct note got;
        CU_ASSERT_TRUE_FATAL(mailbox_wait(mailbox, &got, clock_now() + SEC(60)));
        ordered = ordered && got.number == ++last[got.sender];
    }
    CU_ASSERT_TRUE(ordered);
    for (unsigned i = 0; i < SENDERS; i++)
        pthread_join(senders[i].thread, NULL);
    mailbox_destroy(&mailbox);
}

/* ---- quick exit ---- */

/* Children of a process with one thread. */
static unsigned children_of(pid_t parent)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)parent, (int)parent);
    FILE *file = fopen(path, "r");
    unsigned count = 0;
    for (int pid; file && fscanf(file, "%d", &pid) == 1;)
        count++;
    if (file)
        fclose(file);
    return count;
}

/* In the child: arms, says so, and waits to be killed. */
static void be_killed(int end)
{
    struct error err = {0};
    if (quick_exit_arm(&err) < 0)
        _exit(1);
    if (write(end, "k", 1) != 1)
        _exit(1);
    for (;;)
        pause();
}

static void the_peer_of_a_killed_process_reads_the_end(void)
{
    int ends[2];
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        be_killed(ends[1]);
    }
    close(ends[1]);
    char byte = 0;
    CU_ASSERT_EQUAL(read(ends[0], &byte, 1), 1);
    CU_ASSERT_EQUAL(children_of(child), 1);
    kill(child, SIGKILL);
    /* The holder has no descriptor of the child: the end comes although it may still live. */
    CU_ASSERT_EQUAL(read(ends[0], &byte, 1), 0);
    int status = 0;
    CU_ASSERT_EQUAL(waitpid(child, &status, 0), child);
    CU_ASSERT_TRUE(WIFSIGNALED(status));
    close(ends[0]);
}

static const struct test_case cases[] = {
    {"letters come in order, and time runs out", letters_come_in_order_and_time_runs_out},
    {"no letter of many senders is lost", no_letter_of_many_senders_is_lost},
    {"the peer of a killed process reads the end", the_peer_of_a_killed_process_reads_the_end},
};

TEST_MAIN("mailbox", cases)
