/* The pair that most tests of the handshake begin with: alike but for their roles. */
#ifndef KEMARI_TEST_SUPPORT_PARTY_H
#define KEMARI_TEST_SUPPORT_PARTY_H

#include "transport/session.h"

#define PARTY_SECRET "0123456789abcdef0123456789abcdef"

/* 64 MiB in two slots, "vm-1", a short identity, term 5 for a primary and 0 for a secondary; the
 * key of PARTY_SECRET. */
void party_config(struct session_config *out, enum session_role role, unsigned timeout_ms);

#endif
