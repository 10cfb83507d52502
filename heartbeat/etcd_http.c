#include "heartbeat/etcd_http.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define POLL_MAX_MS 1000

struct etcd_http {
    CURLM *multi; /* owns the connections */
    CURL *easy;
    struct curl_slist *headers;
    size_t size;
    bool overflow;
    char trouble[CURL_ERROR_SIZE];
    char body[ETCD_BODY_MAX];
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static CURLcode global;

static void initialise(void)
{
    global = curl_global_init(CURL_GLOBAL_DEFAULT);
}

static size_t on_body(char *bytes, size_t one, size_t count, void *context)
{
    struct etcd_http *h = context;
    const size_t size = one * count;
    if (size > sizeof(h->body) - h->size) {
        h->overflow = true;
        return 0;
    }
    memcpy(h->body + h->size, bytes, size);
    h->size += size;
    return size;
}

#define SET(option, value) good = good && curl_easy_setopt(h->easy, option, value) == CURLE_OK

static bool set_options(struct etcd_http *h, const struct etcd_tls *tls)
{
    bool good = true;
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_PROXY, "");
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    /* An abandoned look-up of a host name must not hold the thread. */
    SET(CURLOPT_QUICK_EXIT, 1L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(CURLOPT_ERRORBUFFER, h->trouble);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, (void *)h);
    if (tls->ca)
        SET(CURLOPT_CAINFO, tls->ca);
    if (tls->cert)
        SET(CURLOPT_SSLCERT, tls->cert);
    if (tls->key)
        SET(CURLOPT_SSLKEY, tls->key);
    return good;
}

int etcd_http_create(const struct etcd_tls *tls, struct etcd_http **out, struct error *err)
{
    *out = NULL;
    pthread_once(&once, initialise);
    if (global != CURLE_OK)
        return error_set(err, -EIO, "libcurl can't be used: %s", curl_easy_strerror(global));
    struct etcd_http *h = calloc(1, sizeof(*h));
    if (!h)
        return error_set(err, -ENOMEM, "out of memory");
    h->multi = curl_multi_init();
    h->easy = curl_easy_init();
    if (!h->multi || !h->easy || !set_options(h, tls)) {
        etcd_http_destroy(&h);
        return error_set(err, -ENOMEM, "libcurl can't be set up");
    }
    *out = h;
    return 0;
}

void etcd_http_destroy(struct etcd_http **http)
{
    struct etcd_http *h = *http;
    if (!h)
        return;
    curl_easy_cleanup(h->easy);
    curl_multi_cleanup(h->multi);
    curl_slist_free_all(h->headers);
    free(h);
    *http = NULL;
}

/* "Expect:" without a value keeps curl from asking before it sends the body. */
static bool set_headers(struct etcd_http *h, const char *token)
{
    static const char *const fixed[] = {"Content-Type: application/json", "Expect:"};
    curl_slist_free_all(h->headers);
    h->headers = NULL;
    char line[1024];
    const bool authorised = token && *token;
    if (authorised)
        snprintf(line, sizeof(line), "Authorization: %s", token);
    for (size_t i = 0; i < ARRAY_SIZE(fixed) + (authorised ? 1 : 0); i++) {
        struct curl_slist *longer =
            curl_slist_append(h->headers, i < ARRAY_SIZE(fixed) ? fixed[i] : line);
        if (!longer)
            return false;
        h->headers = longer;
    }
    return curl_easy_setopt(h->easy, CURLOPT_HTTPHEADER, h->headers) == CURLE_OK;
}

/* Until the transfer has ended, and how. */
static int drive(struct etcd_http *h, const struct etcd_call *call, CURLcode *result)
{
    struct curl_waitfd cancel = {.fd = call->cancel_fd, .events = CURL_WAIT_POLLIN};
    for (;;) {
        int running = 0, queued;
        if (curl_multi_perform(h->multi, &running) != CURLM_OK)
            return -EIO;
        const CURLMsg *message = curl_multi_info_read(h->multi, &queued);
        if (message && message->msg == CURLMSG_DONE) {
            *result = message->data.result;
            return 0;
        }
        const nsec_t left = call->deadline - clock_now();
        if (left <= 0)
            return -ETIMEDOUT;
        const nsec_t ms = left / MSEC(1) + 1;
        cancel.revents = 0;
        if (curl_multi_poll(h->multi, &cancel, 1, ms < POLL_MAX_MS ? (int)ms : POLL_MAX_MS, NULL) !=
            CURLM_OK)
            return -EIO;
        if (cancel.revents)
            return -ECANCELED;
    }
}

static int explain(const struct etcd_http *h, int rc, CURLcode result, struct error *err)
{
    if (rc == -ECANCELED)
        return error_set(err, rc, "taken back");
    if (rc == -ETIMEDOUT || (rc == 0 && result == CURLE_OPERATION_TIMEDOUT))
        return error_set(err, -ETIMEDOUT, "no answer in time");
    if (h->overflow)
        return error_set(err, -EMSGSIZE, "the answer is longer than %d bytes", ETCD_BODY_MAX);
    if (rc < 0 || result != CURLE_OK)
        return error_set(err, -EIO, "%.120s",
                         *h->trouble ? h->trouble : curl_easy_strerror(result));
    return 0;
}

int etcd_http_post(struct etcd_http *http, const struct etcd_call *call, struct etcd_reply *reply,
                   struct error *err)
{
    struct etcd_http *h = http;
    bool good = set_headers(h, call->token);
    h->size = 0;
    h->overflow = false;
    h->trouble[0] = '\0';
    SET(CURLOPT_URL, call->url);
    SET(CURLOPT_POSTFIELDSIZE, (long)strlen(call->body));
    SET(CURLOPT_POSTFIELDS, call->body);
    if (!good || curl_multi_add_handle(h->multi, h->easy) != CURLM_OK)
        return error_set(err, -ENOMEM, "libcurl does not take the request");
    CURLcode result = CURLE_OK;
    int rc = drive(h, call, &result);
    /* Ends a transfer under way and its connection with it. */
    curl_multi_remove_handle(h->multi, h->easy);
    rc = explain(h, rc, result, err);
    if (rc < 0)
        return rc;
    *reply = (struct etcd_reply){.body = h->body, .size = h->size};
    curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &reply->status);
    return 0;
}
