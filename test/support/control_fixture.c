#include "test/support/control_fixture.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/thread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test/support/control_sample.h"

static void fake_status(void *context, struct control_status *status)
{
    (void)context;
    control_sample_protected(status);
}

static void fake_failover(void *context, control_token_t token)
{
    struct control_fixture *f = context;
    pthread_mutex_lock(&f->lock);
    f->failover_token = token;
    pthread_cond_signal(&f->asked);
    pthread_mutex_unlock(&f->lock);
}

static void fake_switchover(void *context, control_token_t token)
{
    struct control_fixture *f = context;
    control_server_complete(f->server, token, 0, "the guest runs on the other host");
}

static void fake_unprotect(void *context, control_token_t token)
{
    struct control_fixture *f = context;
    control_server_complete(f->server, token, -EBUSY, "a secondary is being synchronised");
}

static void fake_protect(void *context, control_token_t token)
{
    struct control_fixture *f = context;
    control_server_complete(f->server, token, 0, "a secondary is let in again");
}

static void fake_stop(void *context, control_token_t token)
{
    struct control_fixture *f = context;
    control_server_complete(f->server, token, 0, "the guest is stopped");
    f->stopped = true;
    event_base_loopbreak(f->base);
}

static void fake_grant(void *context, control_token_t token, term_t term)
{
    struct control_fixture *f = context;
    if (term == 0 || term == 7)
        control_server_complete(f->server, token, 0, "term 7 is granted");
    else
        control_server_complete(f->server, token, -ESTALE, "the question is about term 7");
}

static void fake_deny(void *context, control_token_t token, term_t term)
{
    struct control_fixture *f = context;
    (void)term;
    control_server_complete(f->server, token, -ENOENT, "nothing is asked");
}

static void fake_dump(void *context, control_token_t token, const char *name)
{
    struct control_fixture *f = context;
    (void)name;
    control_server_complete(f->server, token, -EBUSY, "the guest runs");
}

/* The guest echoes, and takes three bytes at a time. */
static int fake_console(void *context, uint64_t since, const uint8_t *typed, size_t typed_size,
                        struct control_console_reply *out, struct error *err)
{
    struct control_fixture *f = context;
    if (f->guest_is_away)
        return error_set(err, -EPERM, "the guest runs on the other host: its console is there");
    out->typed = (uint32_t)(typed_size < 3 ? typed_size : 3);
    control_console_write(f->console, typed, out->typed);
    out->size = control_console_read(f->console, since, out->said, sizeof(out->said), &out->next);
    return 0;
}

static void fake_checkpoint(void *context, control_token_t token)
{
    struct control_fixture *f = context;
    control_server_complete(f->server, token, -EBUSY, "the guest is not protected");
}

static void fake_freeze(void *context, control_token_t token, uint64_t duration_ns)
{
    struct control_fixture *f = context;
    char text[64];
    snprintf(text, sizeof(text), "frozen for %llu ns", (unsigned long long)duration_ns);
    control_server_complete(f->server, token, 0, text);
}

static void fake_policy(void *context, struct control_policy *policy)
{
    (void)context;
    *policy = (struct control_policy){2, {{"policy", "interval"}, {"interval", "25ms"}}};
}

static void fake_set_policy(void *context, control_token_t token,
                            const struct control_policy *change)
{
    struct control_fixture *f = context;
    char text[256];
    snprintf(text, sizeof(text), "%u: %s is %s", change->count, change->settings[0].key,
             change->settings[0].value);
    control_server_complete(f->server, token, change->count == 1 ? 0 : -EINVAL, text);
}

static const struct control_ops fake_ops = {
    .status = fake_status,
    .failover = fake_failover,
    .switchover = fake_switchover,
    .unprotect = fake_unprotect,
    .protect = fake_protect,
    .stop = fake_stop,
    .grant = fake_grant,
    .deny = fake_deny,
    .dump = fake_dump,
    .freeze = fake_freeze,
    .checkpoint = fake_checkpoint,
    .console = fake_console,
    .policy = fake_policy,
    .set_policy = fake_set_policy,
};

static void *run_loop(void *context)
{
    struct control_fixture *f = context;
    event_base_loop(f->base, EVLOOP_NO_EXIT_ON_EMPTY);
    if (f->stopped)
        control_server_flush(f->server, SEC(5));
    return NULL;
}

static void need(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "control fixture: %s\n", what);
    abort();
}

void control_fixture_start(struct control_fixture *f, gid_t group)
{
    *f = (struct control_fixture){0};
    need(evthread_use_pthreads() == 0, "libevent has no threads");
    snprintf(f->directory, sizeof(f->directory), "/tmp/kemari-control-XXXXXX");
    need(mkdtemp(f->directory) && chmod(f->directory, 0755) == 0, "no directory");
    snprintf(f->path, sizeof(f->path), "%s/web.sock", f->directory);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->asked, NULL);
    f->events = control_events_create(FIXTURE_EVENTS);
    f->console = control_console_create();
    f->base = event_base_new();
    need(f->events && f->console && f->base, "out of memory");
    const struct control_server_config config = {
        .path = f->path,
        .group = group,
        .vm = "web",
        .ops = &fake_ops,
        .context = f,
        .events = f->events,
    };
    struct error err = {0};
    need(control_server_create(f->base, &config, &f->server, &err) == 0, err.text);
    need(pthread_create(&f->thread, NULL, run_loop, f) == 0, "no thread");
}

void control_fixture_pause(struct control_fixture *f)
{
    /* Works before the loop has begun, too, which loopbreak does not. */
    event_base_loopexit(f->base, NULL);
    pthread_join(f->thread, NULL);
}

void control_fixture_resume(struct control_fixture *f)
{
    need(pthread_create(&f->thread, NULL, run_loop, f) == 0, "no thread");
}

void control_fixture_stop(struct control_fixture *f)
{
    control_fixture_pause(f);
    control_server_flush(f->server, SEC(5));
    control_server_destroy(&f->server);
    event_base_free(f->base);
    control_events_destroy(&f->events);
    control_console_destroy(&f->console);
    pthread_cond_destroy(&f->asked);
    pthread_mutex_destroy(&f->lock);
    rmdir(f->directory);
}

control_token_t control_fixture_wait_failover(struct control_fixture *f)
{
    pthread_mutex_lock(&f->lock);
    while (!f->failover_token)
        pthread_cond_wait(&f->asked, &f->lock);
    const control_token_t token = f->failover_token;
    f->failover_token = 0;
    pthread_mutex_unlock(&f->lock);
    return token;
}
