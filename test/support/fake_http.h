/* An HTTP server on loopback that says what a test wants, true or not. One connection at a time,
 * one request per connection. */
#ifndef KEMARI_TEST_SUPPORT_FAKE_HTTP_H
#define KEMARI_TEST_SUPPORT_FAKE_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#define FAKE_HTTP_MAX (256 * 1024) /* bytes of a reply */

struct fake_http;

/* Fills `reply` with all bytes to send, status line included; returns how many. 0: cuts the
 * connection. -1: says nothing more, and keeps it open until the server is stopped or the client
 * goes. On the server's thread. */
typedef long (*fake_http_handler)(void *context, const char *path, const char *body, char *reply);

struct fake_http *fake_http_start(fake_http_handler handler, void *context);
void fake_http_stop(struct fake_http **server);
const char *fake_http_url(const struct fake_http *server);

/* A reply of status 200, or another, with that body. */
long fake_http_reply(char *reply, int status, const char *body);

#endif
