/* `kemarictl dump`: the memory of a guest that this host lost, for post-mortem. On a thread of its
 * own, since it writes as much as the guest has; one at a time.
 *
 * The file is made in the state directory, for its owner only, and never replaces one: whoever may
 * use the control socket need not be root, and the daemon often is. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/elf_core.h"
#include "app/node_internal.h"
#include "base/clock.h"
#include "base/fd.h"

#define PARK_TIMEOUT SEC(5)

static bool name_valid(const char *name)
{
    static const char legal[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    const size_t length = strlen(name);
    return length > 0 && *name != '.' && strspn(name, legal) == length;
}

static int write_file(struct node *node, const char *path, struct error *err)
{
    struct section_set *state = section_set_create();
    if (!state)
        return error_set(err, -ENOMEM, "out of memory");
    int rc = engine_save_fenced(node->dump.engine, state, clock_now() + PARK_TIMEOUT, err);
    int fd = -1;
    if (rc == 0) {
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
            rc = error_set(err, -errno, "%s: %s", path, strerror(errno));
    }
    if (rc == 0) {
        rc = elf_core_write(fd, node->ops.ops->memory(node->ops.context), state,
                            node->config->vcpus, err);
        if (rc < 0)
            unlink(path);
    }
    fd_close(&fd);
    section_set_destroy(&state);
    return rc;
}

static void *dump_main(void *context)
{
    struct node *node = context;
    struct error err = {0};
    char path[4096], text[ERROR_TEXT_MAX];
    snprintf(path, sizeof(path), "%s/%s", node->config->state_dir, node->dump.name);
    const int rc = write_file(node, path, &err);
    if (rc == 0)
        snprintf(text, sizeof(text), "written to %.400s", path);
    else
        memcpy(text, err.text, sizeof(text));
    node_note(node, rc < 0, "guest.dump", text);
    control_server_complete(node->server, node->dump.token, rc, text);
    pthread_mutex_lock(&node->lock);
    node->dump.active = false;
    pthread_mutex_unlock(&node->lock);
    return NULL;
}

/* With the node's lock held. */
static int start_dump(struct node *node, control_token_t token, const char *name, struct error *err)
{
    if (!name_valid(name))
        return error_set(err, -EINVAL,
                         "\"%.60s\" is not the name of a file: it is made in the state directory",
                         name);
    if (!node->primary || !primary_is_fenced(node->primary))
        return error_set(err, -EBUSY, "there is no guest here that was stopped for good");
    if (node->qemu)
        return error_set(err, -ENOTSUP, "the registers of a guest in QEMU can't be read");
    if (node->dump.active)
        return error_set(err, -EBUSY, "a dump is being written");
    if (node->dump.started)
        pthread_join(node->dump.thread, NULL);
    node->dump.started = false;
    node->dump.engine = primary_engine(node->primary);
    node->dump.token = token;
    snprintf(node->dump.name, sizeof(node->dump.name), "%s", name);
    if (pthread_create(&node->dump.thread, NULL, dump_main, node) != 0)
        return error_set(err, -EAGAIN, "can't start a thread");
    node->dump.started = node->dump.active = true;
    return 0;
}

void node_dump(void *context, control_token_t token, const char *name)
{
    struct node *node = context;
    struct error err = {0};
    pthread_mutex_lock(&node->lock);
    const int rc = start_dump(node, token, name, &err);
    pthread_mutex_unlock(&node->lock);
    if (rc < 0)
        control_server_complete(node->server, token, rc, err.text);
}

void node_finish_dump(struct node *node)
{
    if (node->dump.started)
        pthread_join(node->dump.thread, NULL);
    node->dump.started = false;
}
