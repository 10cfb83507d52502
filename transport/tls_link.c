/* A link over TLS, on a socket or on another link (transport/tls_wire.h).
 *
 * OpenSSL's object may be used by one thread at a time, but a link sends on one thread while
 * another waits in a receive. So the object never touches the socket: it reads from one buffer and
 * writes to another, under `lock`, a record at a time (some microseconds), and whoever waits for
 * the network does it outside:
 *
 *   sender:    [ lock: SSL_write ─► out ] ... until `out` is full or the frame ends ─► sendmsg
 *   receiver:  [ lock: SSL_read ◄─ in ]   nothing left in `in` ◄─ recvmsg
 *
 * Where the kernel encrypts (SSL_OP_ENABLE_KTLS, sending only in OpenSSL 3.0), the sender hands the
 * frame to the socket and needs neither the object nor the lock; the object is the receiver's.
 *
 * No close_notify is sent or expected: an end without a Goodbye is a failure here, whoever cut the
 * connection, and link.h's errors say no more than that. Records can't be cut out, repeated or
 * changed unnoticed in between.
 *
 * A sender changes its key after rekey_frames records (KeyUpdate). OpenSSL 3.0 can't do that when
 * the kernel encrypts: there one key serves for the whole connection. */
#include <errno.h>
#include <openssl/err.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/wire.h"
#include "transport/frame.h"
#include "transport/link_backend.h"
#include "transport/tls.h"
#include "transport/tls_internal.h"
#include "transport/tls_wire.h"

#define RECORD_MAX     SSL3_RT_MAX_PLAIN_LENGTH /* bytes of plain text in a record */
#define RECORD_WIRE    (RECORD_MAX + SSL3_RT_MAX_ENCRYPTED_OVERHEAD + SSL3_RT_HEADER_LENGTH)
#define OUT_SIZE       (8u * RECORD_WIRE) /* encrypted and not sent yet */
#define IN_SIZE        (128u << 10)       /* received and not decrypted yet */
#define BINDING_LABEL  "EXPORTER-kemari-session-1"
#define LAST_WORDS_MAX 16  /* pieces read from a peer that is refused */
#define SLACK          128 /* bytes of a KeyUpdate beside a record */

struct tls_link {
    struct link link; /* first member */
    const struct tls_credentials *credentials;
    struct tls_wire wire;
    bool kernel; /* sends go around `ssl`; set by establish */

    pthread_mutex_t lock; /* around every use of `ssl` */
    SSL *ssl;
    bool deaf; /* under lock: what `ssl` writes now is dropped, as the sender owns `out` */

    /* owned by the sender */
    size_t gathered; /* bytes of `plain` */
    size_t out_used;
    uint64_t records; /* since the key was changed */
    uint8_t plain[RECORD_MAX];
    uint8_t out[OUT_SIZE];

    /* owned by the receiver */
    size_t in_start, in_end;
    bool inside; /* a record has begun that nothing came out of yet */
    uint8_t in[IN_SIZE];
};

/* --- what the object takes for its network --- */

static int buffer_read(BIO *bio, char *to, int size)
{
    struct tls_link *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    size_t n = t->in_end - t->in_start;
    if (n == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    n = n < (size_t)size ? n : (size_t)size;
    memcpy(to, t->in + t->in_start, n);
    t->in_start += n;
    t->inside = true;
    return (int)n;
}

static int buffer_write(BIO *bio, const char *from, int size)
{
    struct tls_link *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (t->deaf)
        return size;
    if ((size_t)size > OUT_SIZE - t->out_used)
        return -1;
    memcpy(t->out + t->out_used, from, (size_t)size);
    t->out_used += (size_t)size;
    return size;
}

static long buffer_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static int buffer_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

/* As a socket's, without the signal that a closed connection would raise. */
static int socket_write(BIO *bio, const char *from, int size)
{
    BIO_clear_retry_flags(bio);
    return (int)send((int)BIO_get_fd(bio, NULL), from, (size_t)size, MSG_NOSIGNAL);
}

static pthread_once_t methods_once = PTHREAD_ONCE_INIT;
static BIO_METHOD *buffer_method;
static BIO_METHOD *socket_method; /* for writing, where the kernel may take over */

static void make_methods(void)
{
    buffer_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "kemari buffers");
    socket_method = BIO_meth_new(BIO_TYPE_SOCKET, "kemari socket");
    if (!buffer_method || !socket_method)
        abort();
    BIO_meth_set_read(buffer_method, buffer_read);
    BIO_meth_set_write(buffer_method, buffer_write);
    BIO_meth_set_ctrl(buffer_method, buffer_ctrl);
    BIO_meth_set_create(buffer_method, buffer_create);
    const BIO_METHOD *model = BIO_s_socket();
    BIO_meth_set_write(socket_method, socket_write);
    BIO_meth_set_ctrl(socket_method, BIO_meth_get_ctrl(model));
    BIO_meth_set_create(socket_method, BIO_meth_get_create(model));
    BIO_meth_set_destroy(socket_method, BIO_meth_get_destroy(model));
}

/* --- moving bytes --- */

static int flush_out(struct tls_link *t, const struct link_wait *wait, struct error *err)
{
    if (t->out_used == 0)
        return 0;
    struct iovec part = {t->out, t->out_used};
    t->out_used = 0;
    return tls_wire_send(&t->wire, &part, 1, wait, err);
}

/* More bytes for the object, which has used up what was there. */
static int fill_in(struct tls_link *t, const struct link_wait *wait, struct error *err)
{
    const ssize_t n = tls_wire_receive(&t->wire, t->in, IN_SIZE, wait, err);
    if (n < 0)
        return (int)n;
    t->in_start = 0;
    t->in_end = (size_t)n;
    return 0;
}

/* Encrypts one record into `out`, which has room. */
static int encrypt(struct tls_link *t, const uint8_t *bytes, size_t size, struct error *err)
{
    pthread_mutex_lock(&t->lock);
    ERR_clear_error();
    int rc = 0;
    if (++t->records > t->credentials->rekey_frames) {
        t->records = 1;
        rc = SSL_key_update(t->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1 ? 0 : -EPROTO;
    }
    if (rc == 0 && SSL_write(t->ssl, bytes, (int)size) != (int)size)
        rc = -EPROTO;
    if (rc < 0)
        rc = tls_failed(t->credentials, t->ssl, err);
    pthread_mutex_unlock(&t->lock);
    return rc;
}

static int encrypt_and_flush(struct tls_link *t, const uint8_t *bytes, size_t size,
                             const struct link_wait *wait, struct error *err)
{
    const int rc = encrypt(t, bytes, size, err);
    return rc < 0 || OUT_SIZE - t->out_used >= RECORD_WIRE + SLACK ? rc : flush_out(t, wait, err);
}

/* Whole records go straight from the part; what is smaller is gathered. */
static int send_part(struct tls_link *t, const uint8_t *bytes, size_t size,
                     const struct link_wait *wait, struct error *err)
{
    int rc = 0;
    while (rc == 0 && size) {
        if (t->gathered == 0 && size >= RECORD_MAX) {
            rc = encrypt_and_flush(t, bytes, RECORD_MAX, wait, err);
            bytes += RECORD_MAX;
            size -= RECORD_MAX;
            continue;
        }
        const size_t room = RECORD_MAX - t->gathered;
        const size_t n = size < room ? size : room;
        memcpy(t->plain + t->gathered, bytes, n);
        t->gathered += n;
        bytes += n;
        size -= n;
        if (t->gathered == RECORD_MAX) {
            t->gathered = 0;
            rc = encrypt_and_flush(t, t->plain, RECORD_MAX, wait, err);
        }
    }
    return rc;
}

static int tls_send(struct link *link, struct iovec *parts, int count, const struct link_wait *wait,
                    struct error *err)
{
    struct tls_link *t = (struct tls_link *)link;
    if (t->kernel)
        return tls_wire_send(&t->wire, parts, count, wait, err);
    int rc = 0;
    for (int i = 0; rc == 0 && i < count; i++)
        rc = send_part(t, parts[i].iov_base, parts[i].iov_len, wait, err);
    if (rc == 0 && t->gathered) {
        rc = encrypt(t, t->plain, t->gathered, err);
        t->gathered = 0;
    }
    return rc < 0 ? rc : flush_out(t, wait, err);
}

/* Bytes decrypted; 0: more must come from the network first; or an error. */
static ssize_t decrypt(struct tls_link *t, uint8_t *out, size_t size, struct error *err)
{
    pthread_mutex_lock(&t->lock);
    ERR_clear_error();
    t->deaf = true;
    const int n = SSL_read(t->ssl, out, size > INT32_MAX ? INT32_MAX : (int)size);
    ssize_t result = n;
    if (n <= 0) {
        switch (SSL_get_error(t->ssl, n)) {
        case SSL_ERROR_WANT_READ:
            result = 0;
            break;
        case SSL_ERROR_ZERO_RETURN:
            result = error_set(err, -EPIPE, "the peer closed the connection");
            break;
        default:
            result = tls_failed(t->credentials, t->ssl, err);
        }
    }
    t->deaf = false;
    pthread_mutex_unlock(&t->lock);
    return result;
}

static int tls_receive(struct link *link, void *buffer, size_t size, size_t *got,
                       const struct link_wait *wait, struct error *err)
{
    struct tls_link *t = (struct tls_link *)link;
    *got = 0;
    while (*got < size) {
        const ssize_t n = decrypt(t, (uint8_t *)buffer + *got, size - *got, err);
        if (n < 0)
            return (int)n;
        if (n > 0)
            t->inside = false;
        *got += (size_t)n;
        const int rc = n == 0 ? fill_in(t, wait, err) : 0;
        if (rc == -EPIPE && t->inside)
            return error_set(err, -ECONNRESET, "the connection ended inside a TLS record");
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* --- the handshake --- */

/* A frame where a TLS record should be: tells the peer in the one way that TLS has, which its own
 * link understands, too (link.c). */
static int refuse_plain(struct tls_link *t, struct error *err)
{
    static const uint8_t alert[] = {0x15, 3, 3, 0, 2, 2, 70}; /* fatal, protocol_version */
    tls_wire_try_send(&t->wire, alert, sizeof(alert));
    return error_set(err, -EPROTO,
                     "the peer speaks plain tcp:// and this host tls://: write the same scheme on "
                     "both hosts");
}

static bool is_plain(const struct tls_link *t)
{
    struct wire_reader r = {.bytes = t->in, .size = t->in_end};
    return wire_get_u32(&r) == FRAME_MAGIC;
}

static int shake_hands(struct tls_link *t, const struct link_wait *wait, struct error *err)
{
    for (bool first = true;; first = false) {
        ERR_clear_error();
        const int done = SSL_do_handshake(t->ssl);
        int rc = 0;
        if (done != 1 && SSL_get_error(t->ssl, done) != SSL_ERROR_WANT_READ)
            rc = tls_failed(t->credentials, t->ssl, err);
        /* An alert, too: it says to the peer what is wrong. */
        const int sent = flush_out(t, wait, rc < 0 ? NULL : err);
        if (rc < 0 || sent < 0)
            return rc < 0 ? rc : sent;
        if (done == 1)
            return 0;
        rc = fill_in(t, wait, err);
        if (rc == -EPIPE || rc == -ECONNRESET)
            return error_set(err, -ECONNRESET,
                             "the peer closed the connection in the TLS handshake (does it expect "
                             "plain tcp://?)");
        if (rc < 0)
            return rc;
        if (first && is_plain(t))
            return refuse_plain(t, err);
    }
}

/* It encrypts for sockets only. */
static bool may_use_kernel(const struct tls_link *t)
{
    return t->credentials->kernel && !t->wire.below;
}

/* Frames go through `out`, unless the kernel encrypts. */
static int take_over_sending(struct tls_link *t, struct error *err)
{
    if (!may_use_kernel(t))
        return 0;
    t->kernel = BIO_get_ktls_send(SSL_get_wbio(t->ssl));
    if (t->kernel)
        return 0;
    BIO *out = BIO_new(buffer_method);
    if (!out)
        return error_set(err, -ENOMEM, "out of memory for TLS");
    BIO_set_data(out, t);
    SSL_set0_wbio(t->ssl, out);
    return 0;
}

/* A connection that is closed while bytes of the peer's are on their way is reset, and the reset
 * may overtake the alert that says why. So the peer is heard out, within limits, before that. */
static void let_peer_read(struct tls_link *t, const struct link_wait *wait)
{
    if (!tls_wire_end_sending(&t->wire))
        return;
    for (int i = 0; wait->deadline && i < LAST_WORDS_MAX; i++)
        if (fill_in(t, wait, NULL) < 0)
            return;
}

static int describe(struct tls_link *t, struct link_security *out, struct error *err)
{
    out->encrypted = true;
    out->kernel = t->kernel;
    snprintf(out->cipher, sizeof(out->cipher), "%s", SSL_get_cipher_name(t->ssl));
    if (SSL_export_keying_material(t->ssl, out->binding, sizeof(out->binding), BINDING_LABEL,
                                   strlen(BINDING_LABEL), NULL, 0, 0) != 1)
        return tls_failed(t->credentials, t->ssl, err);
    return 0;
}

static int tls_establish(struct link *link, const struct link_wait *wait, struct link_security *out,
                         struct error *err)
{
    struct tls_link *t = (struct tls_link *)link;
    pthread_mutex_lock(&t->lock);
    int rc = shake_hands(t, wait, err);
    if (rc == 0)
        rc = tls_check_peer(t->credentials, t->ssl, err);
    if (rc == 0)
        rc = take_over_sending(t, err);
    if (rc == 0)
        rc = describe(t, out, err);
    t->inside = false;
    pthread_mutex_unlock(&t->lock);
    if (rc < 0)
        let_peer_read(t, wait);
    return rc;
}

/* The peer may have memory to write to, by way of what is below. */
static void tls_trust(struct link *link)
{
    struct link *below = ((struct tls_link *)link)->wire.below;
    if (below)
        link_trust(below);
}

static void tls_shutdown(struct link *link)
{
    tls_wire_shutdown(&((struct tls_link *)link)->wire);
}

static void tls_destroy(struct link *link)
{
    struct tls_link *t = (struct tls_link *)link;
    SSL_free(t->ssl);
    tls_wire_close(&t->wire);
    pthread_mutex_destroy(&t->lock);
    OPENSSL_cleanse(t->plain, sizeof(t->plain));
    free(t);
}

static const struct link_ops tls_ops = {
    .establish = tls_establish,
    .send = tls_send,
    .receive = tls_receive,
    .trust = tls_trust,
    .shutdown = tls_shutdown,
    .destroy = tls_destroy,
};

/* The object's two ends, which it owns from now on. */
static bool attach(struct tls_link *t)
{
    pthread_once(&methods_once, make_methods);
    BIO *in = BIO_new(buffer_method);
    BIO *out = BIO_new(may_use_kernel(t) ? socket_method : buffer_method);
    if (!in || !out) {
        BIO_free(in);
        BIO_free(out);
        return false;
    }
    BIO_set_data(in, t);
    if (may_use_kernel(t))
        BIO_set_fd(out, t->wire.io.fd, BIO_NOCLOSE);
    else
        BIO_set_data(out, t);
    SSL_set_bio(t->ssl, in, out);
    return true;
}

static int create(struct tls_wire wire, const char *peer, bool server,
                  const struct tls_credentials *credentials, struct link **out, struct error *err)
{
    *out = NULL;
    struct tls_link *t = calloc(1, sizeof(*t));
    SSL *ssl = t ? SSL_new(credentials->context) : NULL;
    if (!ssl) {
        free(t);
        tls_wire_close(&wire);
        return error_set(err, -ENOMEM, "%s: out of memory for a link", peer);
    }
    t->credentials = credentials;
    t->ssl = ssl;
    t->wire = wire;
    pthread_mutex_init(&t->lock, NULL);
    link_init(&t->link, &tls_ops, peer);
    if (!attach(t)) {
        struct link *link = &t->link;
        link_destroy(&link);
        return error_set(err, -ENOMEM, "%s: out of memory for a link", peer);
    }
    if (server)
        SSL_set_accept_state(ssl);
    else
        SSL_set_connect_state(ssl);
    *out = &t->link;
    return 0;
}

int tls_link_create(int fd, const char *peer, bool server,
                    const struct tls_credentials *credentials, struct link **out, struct error *err)
{
    struct tls_wire wire;
    tls_wire_open_socket(&wire, fd);
    return create(wire, peer, server, credentials, out, err);
}

int tls_link_create_over(struct link *below, const char *peer, bool server,
                         const struct tls_credentials *credentials, struct link **out,
                         struct error *err)
{
    struct tls_wire wire;
    tls_wire_open_link(&wire, below);
    return create(wire, peer, server, credentials, out, err);
}
