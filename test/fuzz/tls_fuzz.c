/* A stranger before the TLS handshake: what our side of it (buffers, the look at the first bytes,
 * the refusals) makes of any bytes. The first byte says which side we are, and whether TLS runs on
 * the socket itself or on another link; the rest is what arrives, and then the end. Nobody here
 * knows the key, so nothing may be accepted, and every refusal has its sentence. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "test/support/party.h"
#include "test/support/tls_identity.h"
#include "transport/inproc.h"
#include "transport/session.h"

#define INPUT_MAX  (32u << 10) /* what surely fits in the socket without a reader */
#define TIMEOUT_MS 60000       /* not reached: the stream ends after the input */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int make_link(int fd, uint8_t how, const struct tls_credentials *credentials,
                     struct link **out)
{
    const bool server = how & 1;
    struct link *below = NULL;
    if (!(how & 2))
        return tls_link_create(fd, "fuzz", server, credentials, out, NULL);
    const int rc = inproc_adopt(fd, "below", &below, NULL);
    return rc < 0 ? rc : tls_link_create_over(below, "fuzz", server, credentials, out, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct session_config config;
    static struct tls_credentials *credentials;
    static struct session session;
    if (!credentials) {
        party_config(&config, SESSION_PRIMARY, TIMEOUT_MS);
        credentials = tls_identity_by_secret("a secret that nobody knows", 0);
    }
    if (size == 0 || size > INPUT_MAX)
        return -1;
    const bool server = data[0] & 1;
    int fds[2];
    struct link *link = NULL;
    struct error err = {0};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0 ||
        fd_write_all(fds[1], data + 1, size - 1) < 0 || shutdown(fds[1], SHUT_WR) < 0 ||
        make_link(fds[0], data[0], credentials, &link) < 0)
        abort();
    const int rc = server ? session_accept(link, &config, &session, &err)
                          : session_connect(link, &config, &session, &err);
    assert(rc < 0 && rc != -ESTALE && rc != -ETIMEDOUT && err.code == rc && err.text[0]);
    assert(!link_security(link)->encrypted);
    link_destroy(&link);
    fd_close(&fds[1]);
    return 0;
}
