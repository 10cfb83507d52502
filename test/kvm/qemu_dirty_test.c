/* The dirty logs of a QEMU, judged by what differs in the memory: each page that is not the same at
 * two moments at which the guest stood still must be in the log, whether a processor wrote it or a
 * device, in software emulation or by KVM, and read at one time or at several.
 *
 * The guest is the firmware, whose network boot asks for an address for as long as nobody answers,
 * and takes the frames that the test sends. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "dirtylog/process_log.h"
#include "test/support/memory_watch.h"
#include "test/support/qemu_side.h"
#include "test/support/runner.h"

#define MEMORY ((uint64_t)64 << 20)
/* KVM may be one that interprets firmware, a million instructions a second. */
#define EPOCHS_MIN         12
#define EMULATED_PAGES_MIN 300
#define RECEIVED_MIN       3
#define KVM_PAGES_MIN      40
#define PATIENCE           SEC(240) /* also of an emulated host */
#define ASIDE              ((gfn_t)(40 << 20) >> PAGE_SHIFT)

static const char *const emulated[] = {
    "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-boot", "n", NULL};
/* Not every KVM lets QEMU write the register of the omitted feature. */
static const char *const by_kvm[] = {
    "qemu-system-x86_64",      "-machine", "q35", "-accel", "kvm", "-cpu",
    "host,-arch-capabilities", "-boot",    "n",   NULL};

static void require(int rc, const struct error *err)
{
    if (rc)
        printf("%s\n", err->text);
    CU_ASSERT_EQUAL_FATAL(rc, 0);
}

struct judged {
    enum process_log log;
    struct qemu_side side;
    struct dirty_set dirty, less;
    struct memory_watch watch;
    uint64_t pages;    /* that differed */
    uint64_t received; /* frames that were found in memory */
};

/* To everybody, of a protocol that nobody speaks, with words that are nowhere else. Returns how
 * many bytes of it must be in memory when the card has it. */
static size_t send_frame(struct judged *j, unsigned number, char words[64])
{
    uint8_t frame[QEMU_FRAME_HEADER + 128] = {0};
    uint8_t *ethernet = frame + QEMU_FRAME_HEADER;
    const int length = snprintf(words, 64, "frame %u from the other end of the wire.", number);
    memset(ethernet, 0xff, 6);
    memcpy(ethernet + 6, (const uint8_t[]){2, 0, 0, 0, 0, 9, 0x88, 0xb5}, 8);
    memcpy(ethernet + 14, words, (size_t)length);
    CU_ASSERT_EQUAL(write(j->side.way_out, frame, sizeof(frame)), (ssize_t)sizeof(frame));
    return (size_t)length;
}

static bool is_in_memory(const struct judged *j, const char *words, size_t length)
{
    const struct gmem_slot *s = gmem_slot_at(j->side.memory, 0);
    return memmem(s->host, s->size, words, length) != NULL;
}

/* Memory that the guest doesn't use, with something in it. */
static void fill_aside(const struct judged *j)
{
    memset(gmem_page(j->side.memory, ASIDE), 0x5a, PAGE_SIZE);
}

/* As the kernel does when it is short of memory or makes larger pages, behind everybody's back: the
 * page is in no page table any more, and its soft-dirty bit is gone. That it has other contents
 * stands for a write that the bit would have told. */
static void take_aside_away(const struct judged *j)
{
    if (j->log == PROCESS_LOG_SOFTDIRTY)
        CU_ASSERT_EQUAL(fallocate(gmem_fd(j->side.memory),
                                  FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, ASIDE << PAGE_SHIFT,
                                  PAGE_SIZE),
                        0);
}

/* Parked: what was told isn't told again. */
static void expect_nothing_more(struct judged *j)
{
    struct error err = {0};
    const struct checkpoint_machine *m = &j->side.machine;
    require(m->ops->dirty_collect(m->context, &j->dirty, &err), &err);
    CU_ASSERT_EQUAL(dirty_set_count(&j->dirty), 0);
    dirty_set_clear(&j->dirty);
}

/* Runs for a while, parks, and compares. */
static void run_epoch(struct judged *j, unsigned epoch)
{
    struct error err = {0};
    char words[64];
    const struct checkpoint_machine *m = &j->side.machine;
    m->ops->resume(m->context);
    const size_t length = send_frame(j, epoch, words);
    take_aside_away(j);
    for (unsigned i = 0; i <= epoch % 4; i++) {
        usleep(5000);
        if (i > 0)
            require(m->ops->dirty_collect(m->context, &j->dirty, &err), &err);
    }
    m->ops->park(m->context);
    require(m->ops->dirty_collect(m->context, &j->dirty, &err), &err);
    const struct memory_verdict verdict = memory_watch_judge(&j->watch, &j->dirty);
    CU_ASSERT_EQUAL(verdict.missing, 0);
    j->pages += verdict.differing;
    /* Otherwise the comparison proves nothing. */
    if (verdict.differing) {
        memory_watch_lose(&j->dirty, verdict.example, &j->less);
        CU_ASSERT_EQUAL(memory_watch_judge(&j->watch, &j->less).missing, 1);
        dirty_set_clear(&j->less);
    }
    j->received += is_in_memory(j, words, length);
    dirty_set_clear(&j->dirty);
    expect_nothing_more(j);
    fill_aside(j);
    memory_watch_forget(&j->watch);
    qemu_side_count_frames(&j->side);
}

static void judge(const char *const *command, enum process_log log, uint64_t pages_min,
                  uint64_t received_min)
{
    struct error err = {0};
    enum process_log chosen;
    struct judged j = {.log = log};
    const struct qemu_side_config config = {
        .command = command, .memory = MEMORY, .nets = 1, .log = log};
    if (process_log_choose(log, &chosen, &err) < 0 || qemu_side_open(&config, &j.side, &err) < 0) {
        printf("left out: %s\n", err.text);
        return;
    }
    const struct checkpoint_machine *m = &j.side.machine;
    CU_ASSERT_EQUAL_FATAL(dirty_set_init(&j.dirty, gmem_page_count(j.side.memory)), 0);
    CU_ASSERT_EQUAL_FATAL(dirty_set_init(&j.less, gmem_page_count(j.side.memory)), 0);
    require(m->ops->dirty_start(m->context, &err), &err);
    fill_aside(&j);
    CU_ASSERT_EQUAL_FATAL(memory_watch_begin(&j.watch, j.side.memory), 0);
    const nsec_t deadline = clock_now() + PATIENCE;
    unsigned epoch = 0;
    for (; epoch < EPOCHS_MIN || j.pages < pages_min || j.received < received_min; epoch++) {
        CU_ASSERT_TRUE_FATAL(clock_now() < deadline);
        run_epoch(&j, epoch);
    }
    printf("%s: %u epochs, %llu pages differed, %llu frames received\n", process_log_name(log),
           epoch, (unsigned long long)j.pages, (unsigned long long)j.received);
    memory_watch_end(&j.watch);
    dirty_set_free(&j.dirty);
    dirty_set_free(&j.less);
    qemu_side_close(&j.side);
}

static void what_emulation_writes_is_in_the_pagemap(void)
{
    judge(emulated, PROCESS_LOG_PAGEMAP, EMULATED_PAGES_MIN, RECEIVED_MIN);
}

static void what_emulation_writes_is_soft_dirty(void)
{
    judge(emulated, PROCESS_LOG_SOFTDIRTY, EMULATED_PAGES_MIN, RECEIVED_MIN);
}

static void what_kvm_writes_is_in_the_pagemap(void)
{
    judge(by_kvm, PROCESS_LOG_PAGEMAP, KVM_PAGES_MIN, 0);
}

static void what_kvm_writes_is_soft_dirty(void)
{
    judge(by_kvm, PROCESS_LOG_SOFTDIRTY, KVM_PAGES_MIN, 0);
}

static const struct test_case cases[] = {
    {"pagemap: what software emulation and devices write is in the log",
     what_emulation_writes_is_in_the_pagemap},
    {"softdirty: what software emulation and devices write is in the log",
     what_emulation_writes_is_soft_dirty},
    {"pagemap: what KVM writes is in the log", what_kvm_writes_is_in_the_pagemap},
    {"softdirty: what KVM writes is in the log", what_kvm_writes_is_soft_dirty},
};

int main(int argc, char **argv)
{
    struct error reason = {0};
    enum process_log log;
    if (process_log_choose(PROCESS_LOG_AUTO, &log, &reason) < 0)
        test_skip(reason.text);
    return test_run(argc, argv, "qemu-dirty", cases, ARRAY_SIZE(cases));
}
