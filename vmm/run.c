#include "vmm/run.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

/* One vCPU thread, as the gate sees it. Protected by the lock. */
struct gate {
    pthread_cond_t go; /* `reasons` or `quit` changed, or there is a job */
    bool is_parked;
};

struct run {
    /* set at creation */
    unsigned vcpus;
    unsigned helpers; /* vCPU threads to wake for a job */
    void (*kick)(void *context, unsigned index);
    void *context;

    pthread_mutex_t lock;
    pthread_cond_t parked_changed; /* `parked` or `job_done` */

    /* protected by `lock`; `reasons` and `quit` are read without it, too */
    unsigned reasons;
    bool quit;
    unsigned parked;
    bool in_transition;
    void (*job)(void *context, unsigned index);
    unsigned job_next; /* first vCPU that nobody has taken; `vcpus` when there is none */
    unsigned job_done;
    struct gate gates[]; /* per vCPU */
};

/* The caller works, too; more threads than processors would only get in each other's way. */
static unsigned helpers_for(unsigned vcpus)
{
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    const unsigned others = processors > 1 ? (unsigned)processors - 1 : 0;
    return others < vcpus - 1 ? others : vcpus - 1;
}

struct run *run_create(unsigned vcpus, void (*kick)(void *context, unsigned index), void *context)
{
    struct run *run = calloc(1, sizeof(*run) + vcpus * sizeof(run->gates[0]));
    if (!run)
        return NULL;
    run->vcpus = vcpus;
    run->kick = kick;
    run->context = context;
    run->reasons = 1;
    run->job_next = vcpus;
    run->helpers = helpers_for(vcpus);
    pthread_mutex_init(&run->lock, NULL);
    pthread_cond_init(&run->parked_changed, NULL);
    for (unsigned i = 0; i < vcpus; i++)
        pthread_cond_init(&run->gates[i].go, NULL);
    return run;
}

void run_destroy(struct run **run)
{
    if (!*run)
        return;
    for (unsigned i = 0; i < (*run)->vcpus; i++)
        pthread_cond_destroy(&(*run)->gates[i].go);
    pthread_cond_destroy(&(*run)->parked_changed);
    pthread_mutex_destroy(&(*run)->lock);
    free(*run);
    *run = NULL;
}

bool run_is_stopping(const struct run *run)
{
    return __atomic_load_n(&run->reasons, __ATOMIC_SEQ_CST) > 0 ||
           __atomic_load_n(&run->quit, __ATOMIC_SEQ_CST);
}

static void wake_all(struct run *run)
{
    for (unsigned i = 0; i < run->vcpus; i++)
        pthread_cond_signal(&run->gates[i].go);
}

/* Holding `lock`, which is given up while the job runs: works until everything is taken. */
static void work(struct run *run)
{
    while (run->job_next < run->vcpus) {
        const unsigned index = run->job_next++;
        pthread_mutex_unlock(&run->lock);
        run->job(run->context, index);
        pthread_mutex_lock(&run->lock);
        if (++run->job_done == run->vcpus)
            pthread_cond_broadcast(&run->parked_changed);
    }
}

bool run_gate(struct run *run, unsigned index)
{
    struct gate *gate = &run->gates[index];
    pthread_mutex_lock(&run->lock);
    gate->is_parked = true;
    run->parked++;
    pthread_cond_broadcast(&run->parked_changed);
    while (run->reasons > 0 && !run->quit)
        if (run->job_next < run->vcpus)
            work(run);
        else
            pthread_cond_wait(&gate->go, &run->lock);
    const bool go_on = !run->quit;
    if (go_on) {
        gate->is_parked = false;
        run->parked--;
    } /* else the thread ends: parked for ever, for a transition that waits for it */
    pthread_mutex_unlock(&run->lock);
    return go_on;
}

static void add_reason(struct run *run)
{
    __atomic_store_n(&run->reasons, run->reasons + 1, __ATOMIC_SEQ_CST);
}

static void remove_reason(struct run *run)
{
    assert(run->reasons > 0);
    __atomic_store_n(&run->reasons, run->reasons - 1, __ATOMIC_SEQ_CST);
    if (run->reasons == 0)
        wake_all(run);
}

/* Holding `lock`: stops everybody but `except` (or everybody, when it is run->vcpus). */
static void stop_and_wait(struct run *run, unsigned except)
{
    add_reason(run);
    for (unsigned i = 0; i < run->vcpus; i++)
        if (i != except && !run->gates[i].is_parked)
            run->kick(run->context, i);
    const unsigned wanted = run->vcpus - (except < run->vcpus ? 1 : 0);
    while (run->parked < wanted)
        pthread_cond_wait(&run->parked_changed, &run->lock);
}

void run_stop(struct run *run)
{
    pthread_mutex_lock(&run->lock);
    stop_and_wait(run, run->vcpus);
    pthread_mutex_unlock(&run->lock);
}

void run_resume(struct run *run)
{
    pthread_mutex_lock(&run->lock);
    remove_reason(run);
    pthread_mutex_unlock(&run->lock);
}

bool run_begin_transition(struct run *run, unsigned self)
{
    pthread_mutex_lock(&run->lock);
    const bool mine = !run->in_transition && !run->quit;
    if (mine) {
        run->in_transition = true;
        stop_and_wait(run, self);
    }
    pthread_mutex_unlock(&run->lock);
    return mine;
}

void run_end_transition(struct run *run, bool stay_stopped)
{
    pthread_mutex_lock(&run->lock);
    assert(run->in_transition);
    run->in_transition = stay_stopped;
    if (!stay_stopped)
        remove_reason(run);
    pthread_mutex_unlock(&run->lock);
}

void run_begin_job(struct run *run, void (*job)(void *context, unsigned index))
{
    pthread_mutex_lock(&run->lock);
    /* Before the first stop a thread may still be on its way to the gate. */
    while (run->parked < run->vcpus)
        pthread_cond_wait(&run->parked_changed, &run->lock);
    assert(run->reasons > 0 && run->job_next == run->vcpus);
    run->job = job;
    run->job_next = 0;
    run->job_done = 0;
    for (unsigned i = 0; i < run->helpers; i++)
        pthread_cond_signal(&run->gates[i].go);
    pthread_mutex_unlock(&run->lock);
}

void run_finish_job(struct run *run)
{
    pthread_mutex_lock(&run->lock);
    work(run);
    while (run->job_done < run->vcpus)
        pthread_cond_wait(&run->parked_changed, &run->lock);
    pthread_mutex_unlock(&run->lock);
}

void run_quit(struct run *run)
{
    pthread_mutex_lock(&run->lock);
    __atomic_store_n(&run->quit, true, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < run->vcpus; i++)
        if (!run->gates[i].is_parked)
            run->kick(run->context, i);
    wake_all(run);
    pthread_mutex_unlock(&run->lock);
}
