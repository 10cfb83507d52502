/* Protection ended and taken up again by the operator's order: who is asked, and who hears the
 * answer. */
#include <errno.h>

#include "app/node_internal.h"

static void order(struct node *node, control_token_t token, void (*tell)(struct primary *))
{
    const char *refusal = NULL;
    int rc = -EBUSY;
    pthread_mutex_lock(&node->lock);
    if (node->protection_token) {
        refusal = "another order about protection is under way";
    } else if (node->stopping) {
        refusal = "the daemon is stopping";
    } else if (node->primary) {
        tell(node->primary);
    } else {
        rc = -EPERM;
        refusal = "the guest does not run here: order it on the host that runs it";
    }
    if (!refusal)
        node->protection_token = token;
    pthread_mutex_unlock(&node->lock);
    if (refusal)
        control_server_complete(node->server, token, rc, refusal);
}

void node_unprotect(void *context, control_token_t token)
{
    order(context, token, primary_unprotect);
}

void node_protect(void *context, control_token_t token)
{
    order(context, token, primary_protect);
}

void node_protection_ordered(void *context, int rc, const char *text)
{
    struct node *node = context;
    pthread_mutex_lock(&node->lock);
    const control_token_t token = node->protection_token;
    node->protection_token = 0;
    pthread_mutex_unlock(&node->lock);
    if (token)
        control_server_complete(node->server, token, rc, text);
}
