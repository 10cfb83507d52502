/* OpenSSL's errors as sentences for an operator: what differs, and on which side. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/sslerr.h>
#include <openssl/x509_vfy.h>

#include "transport/tls_internal.h"

#define OTHER_WAY                                                                                  \
    "the two hosts don't authenticate in the same way: give both, or neither, a [tls] cert-file"

#define REFUSED_KEY "the peer refused: this host does not hold the peer's secret"

struct sentence {
    int reason; /* SSL_R_... */
    int code;
    const char *text;
};

/* What only a handshake by key can mean. OpenSSL answers a wrong binder by "illegal parameter", the
 * RFC (8446 §4.2.11) wants "decrypt error". */
static const struct sentence by_key[] = {
    {SSL_R_SSLV3_ALERT_ILLEGAL_PARAMETER, -EKEYREJECTED, REFUSED_KEY},
    {SSL_R_TLSV1_ALERT_DECRYPT_ERROR, -EKEYREJECTED, REFUSED_KEY},
    {SSL_R_CERTIFICATE_VERIFY_FAILED, -EACCES, OTHER_WAY},
};

static const struct sentence sentences[] = {
    {SSL_R_BINDER_DOES_NOT_VERIFY, -EKEYREJECTED, "the peer does not hold this pair's secret"},
    {SSL_R_UNSUPPORTED_PROTOCOL, -EPROTONOSUPPORT, "the peer does not speak TLS 1.3"},
    {SSL_R_WRONG_SSL_VERSION, -EPROTONOSUPPORT, "the peer does not speak TLS 1.3"},
    {SSL_R_VERSION_TOO_LOW, -EPROTONOSUPPORT, "the peer does not speak TLS 1.3"},
    {SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, -EPROTONOSUPPORT, "the peer does not speak TLS 1.3"},
    {SSL_R_INAPPROPRIATE_FALLBACK, -EPROTONOSUPPORT, "the peer does not speak TLS 1.3"},
    {SSL_R_WRONG_VERSION_NUMBER, -EPROTO, "the peer does not speak TLS"},
    {SSL_R_HTTP_REQUEST, -EPROTO, "the peer speaks HTTP, not TLS"},
    {SSL_R_HTTPS_PROXY_REQUEST, -EPROTO, "the peer speaks HTTP, not TLS"},
    {SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, -EACCES, OTHER_WAY},
    {SSL_R_NO_SHARED_CIPHER, -EACCES, OTHER_WAY},
    {SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE, -EACCES, OTHER_WAY},
    {SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, -EACCES, OTHER_WAY},
    {SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED, -EACCES, OTHER_WAY},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, -EACCES,
     "the peer refused this host's certificate: it has expired or is not valid yet"},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, -EACCES, "the peer refused this host's certificate"},
    {SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, -EACCES,
     "the peer refused this host's certificate: it is not valid yet, or not for this host"},
    {SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE, -EACCES,
     "the peer refused this host's certificate: it is not meant for this use"},
    {SSL_R_TLSV1_ALERT_UNKNOWN_CA, -EACCES,
     "the peer refused this host's certificate: another authority signed it, or the peer "
     "authenticates by secret-file"},
    {SSL_R_TLSV1_ALERT_ACCESS_DENIED, -EACCES, "the peer refused this host's certificate"},
    {SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC, -EBADMSG, "a TLS record was changed on its way"},
};

/* Our refusal of the peer's certificate. */
static int certificate_refused(long result, struct error *err)
{
    const char *why = X509_verify_cert_error_string(result);
    switch (result) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        why = "it has expired";
        break;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        why = "it is not valid yet; compare the clocks of the hosts";
        break;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        why = "none of the authorities in ca-file signed it";
        break;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        why = "it does not name the host that peer-name expects";
        break;
    }
    return error_set(err, -EACCES, "the peer's certificate is refused: %s", why);
}

int tls_failed(const struct tls_credentials *credentials, SSL *ssl, struct error *err)
{
    /* The first error is the cause, later ones are where it came through. */
    const unsigned long error = ERR_peek_error();
    const int reason = ERR_GET_REASON(error);
    ERR_clear_error();
    const long verified = SSL_get_verify_result(ssl);
    if (!credentials->by_key && verified != X509_V_OK)
        return certificate_refused(verified, err);
    if (credentials->by_key && ERR_GET_LIB(error) == ERR_LIB_SSL)
        for (size_t i = 0; i < ARRAY_SIZE(by_key); i++)
            if (by_key[i].reason == reason)
                return error_set(err, by_key[i].code, "%s", by_key[i].text);
    if (ERR_GET_LIB(error) == ERR_LIB_SSL)
        for (size_t i = 0; i < ARRAY_SIZE(sentences); i++)
            if (sentences[i].reason == reason)
                return error_set(err, sentences[i].code, "%s", sentences[i].text);
    const char *words = ERR_reason_error_string(error);
    return error_set(err, -EPROTO, "TLS failed: %s", words ? words : "for no known reason");
}

int tls_check_peer(const struct tls_credentials *credentials, SSL *ssl, struct error *err)
{
    if (SSL_version(ssl) != TLS1_3_VERSION)
        return error_set(err, -EPROTONOSUPPORT, "the peer does not speak TLS 1.3");
    if (credentials->by_key)
        return SSL_session_reused(ssl) ? 0 : error_set(err, -EACCES, OTHER_WAY);
    if (!SSL_get0_peer_certificate(ssl))
        return error_set(err, -EACCES, OTHER_WAY);
    const long verified = SSL_get_verify_result(ssl);
    return verified == X509_V_OK ? 0 : certificate_refused(verified, err);
}

int tls_load_failed(const char *what, const char *file, struct error *err)
{
    const char *words = ERR_reason_error_string(ERR_peek_last_error());
    error_set(err, -EINVAL, "%s %s can't be used: %s", what, file,
              words ? words : "unknown reason");
    ERR_clear_error();
    return -EINVAL;
}
