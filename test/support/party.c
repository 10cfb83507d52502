/* See test/support/party.h. */
#include "test/support/party.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/key.h"

void party_config(struct session_config *out, enum session_role role, unsigned timeout_ms)
{
    memset(out, 0, sizeof(*out));
    struct session_party *p = &out->local;
    p->major = SESSION_MAJOR;
    p->minor = SESSION_MINOR;
    p->role = role;
    p->term = role == SESSION_PRIMARY ? 5 : 0;
    p->memory_size = 64u << 20;
    p->staging_cap = role == SESSION_PRIMARY ? 32u << 20 : 16u << 20;
    p->capabilities = role == SESSION_PRIMARY ? 3 : 6;
    p->streams = 1;
    p->slot_count = 2;
    p->slots[0] = (struct session_slot){0, 48u << 20};
    p->slots[1] = (struct session_slot){(gpa_t)4 << 30, 16u << 20};
    snprintf(p->vm_name, sizeof(p->vm_name), "vm-1");
    snprintf(p->identity, sizeof(p->identity),
             "vcpus=4\ncpuid=abc\nmemory=64M\nnet0=52:54:00:00:00:01\n");
    out->timeout_ms = timeout_ms;
    if (key_derive(PARTY_SECRET, strlen(PARTY_SECRET), KEY_LABEL_SESSION, out->key, NULL) < 0)
        abort();
}
