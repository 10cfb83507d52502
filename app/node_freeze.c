/* Standing still on purpose, for a drill (docs/drills.md): the process stops as if its host did.
 *
 * It must wake whatever happens to the one who asked: nobody who could be killed meanwhile is
 * trusted with that. Right before it stops, the process arms a timer of the kernel whose signal is
 * SIGCONT, which wakes a stopped process; the timer is its own and repeats until the process has
 * seen that it is awake, so that it does not matter when exactly the process stops. Whoever asked
 * may send SIGCONT earlier. */
#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "app/node_internal.h"
#include "base/log.h"

#define FREEZE_MAX      SEC(60)
#define WAKE_AGAIN      SEC(1)
#define ANSWER_FIRST_MS 20 /* so that the answer has left */

static void stand_still(evutil_socket_t fd, short what, void *context)
{
    struct node *node = context;
    const struct itimerspec when = {
        .it_value = {node->freeze.duration / SEC(1), node->freeze.duration % SEC(1)},
        .it_interval = {WAKE_AGAIN / SEC(1), 0}};
    (void)fd, (void)what;
    if (timer_settime(node->freeze.wake, 0, &when, NULL) == 0)
        raise(SIGSTOP);
    timer_delete(node->freeze.wake);
    node->freeze.duration = 0;
}

static int arm(struct node *node, nsec_t duration, struct error *err)
{
    struct sigevent wake = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGCONT};
    const struct timeval soon = {.tv_usec = ANSWER_FIRST_MS * 1000};
    if (node->freeze.duration)
        return error_set(err, -EBUSY, "a freeze is under way already");
    if (timer_create(CLOCK_MONOTONIC, &wake, &node->freeze.wake) < 0)
        return error_set(err, -errno, "no timer to wake it up again: nothing is frozen");
    if (event_base_once(node->base, -1, EV_TIMEOUT, stand_still, node, &soon) < 0) {
        timer_delete(node->freeze.wake);
        return error_set(err, -ENOMEM, "out of memory: nothing is frozen");
    }
    node->freeze.duration = duration;
    return 0;
}

void node_freeze(void *context, control_token_t token, uint64_t duration_ns)
{
    struct node *node = context;
    struct error err = {0};
    int rc;
    const nsec_t patience = node_service_patience();
    if (duration_ns == 0 || duration_ns > (uint64_t)FREEZE_MAX)
        rc = error_set(&err, -EINVAL, "a drill freezes for more than nothing and at most 60 s");
    else if ((nsec_t)duration_ns > patience)
        rc = error_set(&err, -EINVAL,
                       "the service manager ends a daemon that stands still for longer than %lld s "
                       "(WatchdogSec of its unit): freeze it for less",
                       (long long)(patience / SEC(1)));
    else
        rc = arm(node, (nsec_t)duration_ns, &err);
    if (rc == 0)
        control_events_note(node->events, CONTROL_WARNING, "drill.frozen",
                            "a drill freezes this process for %llu ms",
                            (unsigned long long)(duration_ns / (uint64_t)MSEC(1)));
    control_server_complete(node->server, token, rc,
                            rc < 0 ? err.text : "this process stands still now");
}
