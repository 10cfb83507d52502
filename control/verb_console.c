/* kemarictl console: a terminal at the guest's console. The daemon is asked again and again, for
 * what was said and with what was typed; nothing is held open there. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "control/kemarictl_call.h"
#include "control/verbs.h"

#define ESCAPE  0x1d /* Ctrl-] */
#define LOOK_MS 50   /* between two questions while nobody types */

struct attachment {
    const struct invocation *inv;
    struct control_client *client;
    struct control_reply *reply;
    struct control_request request; /* `typed`: what the guest had no room for yet */
    bool typing;                    /* input goes on */
};

/* Raw, so that the guest echoes and sees every key. False when there is no terminal. */
static bool make_raw(struct termios *saved)
{
    struct termios raw;
    if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, saved) < 0)
        return false;
    raw = *saved;
    cfmakeraw(&raw);
    return tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
}

/* What is typed within the time, behind what waits already. False at the escape. */
static bool take_input(struct attachment *a, bool terminal)
{
    struct control_request *r = &a->request;
    struct pollfd readable = {.fd = a->typing ? STDIN_FILENO : -1, .events = POLLIN};
    const bool more = a->reply->console.size == sizeof(a->reply->console.said);
    if (poll(&readable, 1, more ? 0 : LOOK_MS) <= 0 || r->typed_size == sizeof(r->typed))
        return true;
    uint8_t *at = r->typed + r->typed_size;
    const ssize_t n = read(STDIN_FILENO, at, sizeof(r->typed) - r->typed_size);
    if (n <= 0) {
        a->typing = false;
        return true;
    }
    r->typed_size += (size_t)n;
    return !(terminal && memchr(at, ESCAPE, (size_t)n));
}

static enum kemarictl_exit exchange(struct attachment *a)
{
    struct control_request *r = &a->request;
    const enum kemarictl_exit status =
        kemarictl_call(a->inv, a->client, r, CONTROL_REPLY_CONSOLE, a->reply);
    if (status != KEMARICTL_OK)
        return status;
    const struct control_console_reply *said = &a->reply->console;
    fwrite(said->said, 1, said->size, a->inv->out);
    fflush(a->inv->out);
    r->since = said->next;
    const size_t typed = said->typed < r->typed_size ? said->typed : r->typed_size;
    memmove(r->typed, r->typed + typed, r->typed_size - typed);
    r->typed_size -= typed;
    return KEMARICTL_OK;
}

static enum kemarictl_exit attach(struct attachment *a)
{
    struct termios saved;
    const bool terminal = make_raw(&saved);
    enum kemarictl_exit status = KEMARICTL_OK;
    bool attached = true;
    while (status == KEMARICTL_OK && attached && !ferror(a->inv->out)) {
        status = exchange(a);
        if (status == KEMARICTL_OK && !a->inv->follow && !a->typing && !a->request.typed_size &&
            !a->reply->console.size)
            break; /* all was typed, and all was shown */
        if (status == KEMARICTL_OK)
            attached = take_input(a, terminal);
    }
    if (terminal)
        tcsetattr(STDIN_FILENO, TCSANOW, &saved);
    return status;
}

static enum kemarictl_exit run_console(struct invocation *inv)
{
    struct attachment a = {.inv = inv, .typing = true, .request = {.verb = CONTROL_VERB_CONSOLE}};
    enum kemarictl_exit status = kemarictl_open(inv, &a.client);
    if (status != KEMARICTL_OK)
        return status;
    a.reply = kemarictl_make_reply();
    if (isatty(STDIN_FILENO))
        fputs("kemarictl: attached; Ctrl-] leaves\n", inv->err);
    status = attach(&a);
    free(a.reply);
    control_client_close(&a.client);
    return status;
}

const struct verb verb_console = {
    .name = "console",
    .takes = TAKES_FOLLOW,
    .run = run_console,
    .help =
        "Shows what the guest said on its console lately, and goes on; what is typed goes there, "
        "to "
        "the console that spoke last. Ctrl-] leaves. Where standard input is no terminal, it is "
        "typed as it is, and the end of it ends the command once nothing more is said, unless "
        "--follow is given.",
};
