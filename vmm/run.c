#include "vmm/run.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

struct run {
    /* set at creation */
    unsigned vcpus;
    void (*kick)(void *context, unsigned index);
    void *context;

    pthread_mutex_t lock;
    pthread_cond_t parked_changed;
    pthread_cond_t go;

    /* written under `lock`; `reasons` and `quit` are read without it */
    unsigned reasons;
    bool quit;
    unsigned parked;
    bool in_transition;
    bool *is_parked; /* per vCPU */
};

struct run *run_create(unsigned vcpus, void (*kick)(void *context, unsigned index), void *context)
{
    struct run *run = calloc(1, sizeof(*run));
    if (!run)
        return NULL;
    run->is_parked = calloc(vcpus, sizeof(bool));
    if (!run->is_parked) {
        free(run);
        return NULL;
    }
    run->vcpus = vcpus;
    run->kick = kick;
    run->context = context;
    run->reasons = 1;
    pthread_mutex_init(&run->lock, NULL);
    pthread_cond_init(&run->parked_changed, NULL);
    pthread_cond_init(&run->go, NULL);
    return run;
}

void run_destroy(struct run **run)
{
    if (!*run)
        return;
    pthread_cond_destroy(&(*run)->go);
    pthread_cond_destroy(&(*run)->parked_changed);
    pthread_mutex_destroy(&(*run)->lock);
    free((*run)->is_parked);
    free(*run);
    *run = NULL;
}

bool run_is_stopping(const struct run *run)
{
    return __atomic_load_n(&run->reasons, __ATOMIC_SEQ_CST) > 0 ||
           __atomic_load_n(&run->quit, __ATOMIC_SEQ_CST);
}

bool run_gate(struct run *run, unsigned index)
{
    pthread_mutex_lock(&run->lock);
    run->is_parked[index] = true;
    run->parked++;
    pthread_cond_broadcast(&run->parked_changed);
    while (run->reasons > 0 && !run->quit)
        pthread_cond_wait(&run->go, &run->lock);
    run->is_parked[index] = false;
    run->parked--;
    const bool go_on = !run->quit;
    pthread_mutex_unlock(&run->lock);
    return go_on;
}

static void change_reasons(struct run *run, int by)
{
    assert(by > 0 || run->reasons > 0);
    __atomic_store_n(&run->reasons, run->reasons + (unsigned)by, __ATOMIC_SEQ_CST);
    if (run->reasons == 0)
        pthread_cond_broadcast(&run->go);
}

/* Holding `lock`: stops everybody but `except` (or everybody, when it is run->vcpus). */
static void stop_and_wait(struct run *run, unsigned except)
{
    change_reasons(run, 1);
    for (unsigned i = 0; i < run->vcpus; i++)
        if (i != except && !run->is_parked[i])
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
    change_reasons(run, -1);
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
        change_reasons(run, -1);
    pthread_mutex_unlock(&run->lock);
}

void run_quit(struct run *run)
{
    pthread_mutex_lock(&run->lock);
    __atomic_store_n(&run->quit, true, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < run->vcpus; i++)
        if (!run->is_parked[i])
            run->kick(run->context, i);
    pthread_cond_broadcast(&run->go);
    pthread_mutex_unlock(&run->lock);
}
