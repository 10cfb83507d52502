/* Parking: fake vCPU threads that count while they run, stopped and let go in every way. */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "test/support/runner.h"
#include "vmm/device_lock.h"
#include "vmm/run.h"

#define VCPUS 4

struct fleet {
    struct run *run;
    pthread_t threads[VCPUS];
    unsigned long counts[VCPUS]; /* written by its thread while it runs */
    unsigned jobs[VCPUS];
    bool wants_transition[VCPUS]; /* atomic: next time around */
    unsigned transitions, refused;
    bool end_in_transition; /* the next transition stops everybody for good */
};

struct member {
    struct fleet *fleet;
    unsigned index;
};

static void kick(void *context, unsigned index)
{
    (void)context;
    (void)index; /* the threads look all the time */
}

static void transition(struct fleet *f, unsigned index)
{
    if (!run_begin_transition(f->run, index)) {
        __atomic_add_fetch(&f->refused, 1, __ATOMIC_SEQ_CST);
        return;
    }
    /* Everybody else stands still now. */
    unsigned long before[VCPUS];
    for (unsigned i = 0; i < VCPUS; i++)
        before[i] = __atomic_load_n(&f->counts[i], __ATOMIC_SEQ_CST);
    sched_yield();
    for (unsigned i = 0; i < VCPUS; i++)
        CU_ASSERT_EQUAL(before[i], __atomic_load_n(&f->counts[i], __ATOMIC_SEQ_CST));
    __atomic_add_fetch(&f->transitions, 1, __ATOMIC_SEQ_CST);
    run_end_transition(f->run, f->end_in_transition);
}

static void *vcpu(void *argument)
{
    struct member *m = argument;
    struct fleet *f = m->fleet;
    while (run_gate(f->run, m->index)) {
        while (!run_is_stopping(f->run)) {
            __atomic_add_fetch(&f->counts[m->index], 1, __ATOMIC_SEQ_CST);
            if (__atomic_exchange_n(&f->wants_transition[m->index], false, __ATOMIC_SEQ_CST)) {
                transition(f, m->index);
                break;
            }
            sched_yield();
        }
    }
    free(m);
    return NULL;
}

static struct fleet *fleet_create(void)
{
    struct fleet *f = calloc(1, sizeof(*f));
    f->run = run_create(VCPUS, kick, f);
    for (unsigned i = 0; i < VCPUS; i++) {
        struct member *m = malloc(sizeof(*m));
        *m = (struct member){f, i};
        pthread_create(&f->threads[i], NULL, vcpu, m);
    }
    return f;
}

static void fleet_destroy(struct fleet *f)
{
    run_quit(f->run);
    for (unsigned i = 0; i < VCPUS; i++)
        pthread_join(f->threads[i], NULL);
    run_destroy(&f->run);
    free(f);
}

static unsigned long total(const struct fleet *f)
{
    unsigned long sum = 0;
    for (unsigned i = 0; i < VCPUS; i++)
        sum += __atomic_load_n(&f->counts[i], __ATOMIC_SEQ_CST);
    return sum;
}

static void wait_for_progress(const struct fleet *f)
{
    for (unsigned i = 0; i < VCPUS; i++) {
        const unsigned long before = __atomic_load_n(&f->counts[i], __ATOMIC_SEQ_CST);
        while (__atomic_load_n(&f->counts[i], __ATOMIC_SEQ_CST) == before)
            sched_yield();
    }
}

static void nobody_runs_before_the_first_resume(void)
{
    struct fleet *f = fleet_create();
    run_begin_job(f->run, kick); /* comes back only when all are at the gate */
    run_finish_job(f->run);
    CU_ASSERT_EQUAL(total(f), 0);
    run_resume(f->run);
    wait_for_progress(f);
    fleet_destroy(f);
}

static void a_thousand_stops_all_hold(void)
{
    struct fleet *f = fleet_create();
    run_resume(f->run);
    for (int i = 0; i < 1000; i++) {
        run_stop(f->run);
        const unsigned long before = total(f);
        sched_yield();
        CU_ASSERT_EQUAL(total(f), before);
        run_resume(f->run);
    }
    wait_for_progress(f);
    fleet_destroy(f);
}

static void two_reasons_need_two_resumes(void)
{
    struct fleet *f = fleet_create();
    run_resume(f->run);
    run_stop(f->run);
    run_stop(f->run);
    const unsigned long before = total(f);
    run_resume(f->run);
    sched_yield();
    CU_ASSERT_EQUAL(total(f), before);
    run_resume(f->run);
    wait_for_progress(f);
    fleet_destroy(f);
}

static void count_job(void *context, unsigned index)
{
    ((struct fleet *)context)->jobs[index]++;
}

static void a_job_is_done_once_for_every_vcpu(void)
{
    struct fleet *f = fleet_create();
    run_resume(f->run);
    for (unsigned round = 1; round <= 100; round++) {
        run_stop(f->run);
        run_begin_job(f->run, count_job);
        run_finish_job(f->run);
        for (unsigned i = 0; i < VCPUS; i++)
            CU_ASSERT_EQUAL(f->jobs[i], round);
        run_resume(f->run);
    }
    fleet_destroy(f);
}

static void transitions_and_stops_do_not_wait_for_each_other_for_ever(void)
{
    struct fleet *f = fleet_create();
    run_resume(f->run);
    for (unsigned i = 0; i < 500; i++) {
        for (unsigned k = 0; k < VCPUS; k++) /* several at once: one wins, the rest are refused */
            __atomic_store_n(&f->wants_transition[k], true, __ATOMIC_SEQ_CST);
        run_stop(f->run);
        run_resume(f->run);
        wait_for_progress(f);
    }
    const unsigned done = __atomic_load_n(&f->transitions, __ATOMIC_SEQ_CST);
    CU_ASSERT(done >= 1);
    fleet_destroy(f);
}

static void a_quit_in_a_transition_ends_it(void)
{
    for (unsigned i = 0; i < 300; i++) {
        struct fleet *f = fleet_create();
        run_resume(f->run);
        wait_for_progress(f);
        for (unsigned k = 0; k < VCPUS; k++)
            __atomic_store_n(&f->wants_transition[k], true, __ATOMIC_SEQ_CST);
        for (unsigned k = i % 4; k > 0; k--) /* meets it at its beginning, or further on */
            sched_yield();
        fleet_destroy(f);
    }
}

static void a_transition_can_stop_for_good(void)
{
    struct fleet *f = fleet_create();
    run_resume(f->run);
    f->end_in_transition = true;
    __atomic_store_n(&f->wants_transition[2], true, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&f->transitions, __ATOMIC_SEQ_CST))
        sched_yield();
    run_stop(f->run);
    const unsigned long before = total(f);
    run_resume(f->run);
    sched_yield();
    CU_ASSERT_EQUAL(total(f), before);
    fleet_destroy(f);
}

struct handover {
    struct device_lock *lock;
    unsigned value;
    bool done;
};

static void *taker(void *argument)
{
    struct handover *h = argument;
    device_lock_acquire(h->lock);
    h->value++;
    h->done = true;
    device_lock_notify(h->lock);
    device_lock_release(h->lock);
    return NULL;
}

static void the_device_lock_may_be_released_by_another_thread(void)
{
    struct handover h = {.lock = device_lock_create()};
    device_lock_acquire(h.lock);
    pthread_t thread;
    pthread_create(&thread, NULL, taker, &h);
    while (!h.done) /* gives the lock up and gets it back */
        device_lock_wait(h.lock);
    CU_ASSERT_EQUAL(h.value, 1);
    device_lock_release(h.lock);
    pthread_join(thread, NULL);
    device_lock_destroy(&h.lock);
}

static const struct test_case cases[] = {
    {"nobody runs before the first resume", nobody_runs_before_the_first_resume},
    {"a thousand stops all hold", a_thousand_stops_all_hold},
    {"two reasons need two resumes", two_reasons_need_two_resumes},
    {"a job is done once for every vCPU", a_job_is_done_once_for_every_vcpu},
    {"transitions and stops do not wait for each other for ever",
     transitions_and_stops_do_not_wait_for_each_other_for_ever},
    {"a quit in a transition ends it", a_quit_in_a_transition_ends_it},
    {"a transition can stop for good", a_transition_can_stop_for_good},
    {"the device lock may be released by another thread",
     the_device_lock_may_be_released_by_another_thread},
};

TEST_MAIN("run", cases)
