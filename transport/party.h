/* Checks of one party by itself, ours before it is sent and the peer's before it is believed. */
#ifndef KEMARI_TRANSPORT_PARTY_H
#define KEMARI_TRANSPORT_PARTY_H

#include "transport/session.h"

/* -EINVAL: unknown role, a primary without term, illegal name, slots that overlap or don't add up,
 * an identity that isn't printable lines of key=value, no staging cap, no or too many streams. The
 * version isn't looked at.
 */
int party_validate(const struct session_party *party, struct error *err);

#endif
