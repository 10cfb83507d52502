/* What each encoding makes of changed pages, in bytes and in time, beside a copy of the same pages
 * and beside sending them as they are, all in one run.
 *
 * Pages come from recordings of real guests (test/bench/page_recorder.py) or are random. A
 * recording is played epoch by epoch through an encoder and a link over loopback, of TCP or TLS, to
 * a thread that decodes, verifies and applies, as a standby does, and acknowledges; at the end both
 * memories must be equal. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/wire.h"
#include "checkpoint/page_cache.h"
#include "checkpoint/page_encoder.h"
#include "transport/message.h"
#include "transport/tls.h"
#include "transport/transport.h"

#define MEMORY      ((uint64_t)256 << 20)
#define TERM        1
#define RECORD_SIZE (16 + PAGE_SIZE)
#define CACHE       ((size_t)48 << 20)
/* Of the random mix. */
#define RANDOM_EPOCHS 40
#define RANDOM_PAGES  250
#define RANDOM_SET    2000
/* Passes over a mix; the best counts, since noise only adds. */
#define ROUNDS 3

struct batch {
    bool last; /* of its epoch */
    size_t count;
    gfn_t gfns[PAGE_BATCH_MAX];
    uint8_t *pages;
};

struct mix {
    const char *name;
    size_t batch_count;
    struct batch *batches;
    uint64_t pages;
    uint64_t epochs;
};

static struct tls_credentials *credentials;

static void die(const char *what, const struct error *err)
{
    fprintf(stderr, "bench-encodings: %s: %s\n", what, err ? err->text : strerror(errno));
    exit(1);
}

static void *get(size_t size)
{
    void *p = calloc(1, size);
    if (!p)
        die("memory", NULL);
    return p;
}

static struct batch *add_batch(struct mix *mix)
{
    mix->batches = realloc(mix->batches, (mix->batch_count + 1) * sizeof(*mix->batches));
    if (!mix->batches)
        die("memory", NULL);
    struct batch *batch = &mix->batches[mix->batch_count++];
    *batch = (struct batch){.pages = get(PAGE_BATCH_MAX * PAGE_SIZE)};
    return batch;
}

static void end_epoch(struct mix *mix)
{
    if (mix->batch_count)
        mix->batches[mix->batch_count - 1].last = true;
    mix->epochs++;
}

static void load(struct mix *mix, const char *path)
{
    const char *slash = strrchr(path, '/');
    mix->name = slash ? slash + 1 : path;
    FILE *file = fopen(path, "rb");
    if (!file)
        die(path, NULL);
    uint8_t record[RECORD_SIZE];
    struct batch *batch = NULL;
    uint64_t before = 0;
    while (fread(record, RECORD_SIZE, 1, file) == 1) {
        struct wire_reader r = {.bytes = record, .size = sizeof(record)};
        const uint64_t epoch = wire_get_u64(&r);
        const gfn_t gfn = wire_get_u64(&r);
        if (gfn >= MEMORY >> PAGE_SHIFT)
            continue;
        if (batch && epoch != before) {
            end_epoch(mix);
            batch = NULL;
        }
        if (!batch || batch->count == PAGE_BATCH_MAX)
            batch = add_batch(mix);
        before = epoch;
        batch->gfns[batch->count] = gfn;
        memcpy(batch->pages + batch->count++ * PAGE_SIZE, record + 16, PAGE_SIZE);
        mix->pages++;
    }
    end_epoch(mix);
    fclose(file);
    if (!mix->pages)
        die(path, NULL);
}

static void make_random(struct mix *mix)
{
    uint64_t state = 88172645463325252u;
    mix->name = "random";
    for (unsigned epoch = 0; epoch < RANDOM_EPOCHS; epoch++) {
        struct batch *batch = add_batch(mix);
        batch->count = RANDOM_PAGES;
        batch->last = true;
        for (size_t i = 0; i < RANDOM_PAGES; i++) {
            batch->gfns[i] = (epoch * 97 + i * (RANDOM_SET / RANDOM_PAGES)) % 8 + i * 8;
            for (size_t at = 0; at < PAGE_SIZE; at += 8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                memcpy(batch->pages + i * PAGE_SIZE + at, &state, 8);
            }
        }
        mix->pages += RANDOM_PAGES;
        mix->epochs++;
    }
}

/* ---- the standby ---- */

struct standby {
    struct link *link;
    struct gmem *memory;
    nsec_t decoding; /* verify and apply */
};

static void *standby_main(void *context)
{
    struct standby *s = context;
    uint8_t *payload = get(FRAME_PAYLOAD_MAX);
    struct error err;
    struct frame frame;
    while (link_receive_header(s->link, &frame, &err) == 0) {
        if (link_receive_payload(s->link, payload, frame.size, &err) < 0)
            die("receive", &err);
        if (frame.type == FRAME_CONTROL) {
            const struct message ack = {.kind = MESSAGE_EPOCH_ACK};
            message_send(s->link, TERM, frame.epoch, &ack, NULL);
            continue;
        }
        const nsec_t start = clock_now();
        struct page_batch batch;
        if (page_batch_decode(&batch, payload, frame.size, s->memory, false, 0, &err) < 0 ||
            page_batch_verify(&batch, s->memory, &err) < 0)
            die("decode", &err);
        page_batch_apply(&batch, s->memory);
        s->decoding += clock_now() - start;
    }
    free(payload);
    return NULL;
}

/* ---- one pass ---- */

struct result {
    uint64_t bytes;
    nsec_t encoding;
    nsec_t decoding;
    nsec_t commit; /* all epochs, from the first byte encoded to the acknowledgement */
};

static void *establish_far(void *link)
{
    struct error err;
    if (link_establish(link, &err) < 0)
        die("link", &err);
    return NULL;
}

static void connect_pair(bool encrypted, struct link **near, struct link **far)
{
    const char *uri = encrypted ? "tls://127.0.0.1:0" : "tcp://127.0.0.1:0";
    struct listener *listener;
    struct error err;
    pthread_t thread;
    if (transport_listen(uri, credentials, &listener, &err) < 0 ||
        transport_connect(listener_uri(listener), credentials, 5000, -1, near, &err) < 0 ||
        listener_accept(listener, 5000, far, &err) < 0)
        die("link", &err);
    listener_destroy(&listener);
    pthread_create(&thread, NULL, establish_far, *far);
    if (link_establish(*near, &err) < 0)
        die("link", &err);
    pthread_join(thread, NULL);
}

static struct gmem *make_memory(void)
{
    struct gmem *memory;
    struct error err;
    if (gmem_create(&(struct gmem_config){.size = MEMORY}, &memory, &err) < 0)
        die("memory", &err);
    return memory;
}

static void send_frame(struct link *link, enum frame_type type, epoch_t epoch,
                       const struct iovec *parts, int count)
{
    struct error err;
    const struct frame frame = {.type = type, .term = TERM, .epoch = epoch};
    if (link_send(link, &frame, parts, count, &err) < 0)
        die("send", &err);
}

static void await_ack(struct link *link, struct page_encoder *encoder, uint64_t bytes,
                      nsec_t on_wire)
{
    struct frame frame;
    struct message message;
    struct error err;
    if (link_receive_header(link, &frame, &err) < 0 ||
        message_receive(link, &frame, &message, &err) < 0)
        die("acknowledgement", &err);
    link_cost_acknowledged(page_encoder_link_cost(encoder), bytes, clock_now() - on_wire);
}

/* An epoch is its batches and one control frame; the next begins when it is acknowledged. */
static void play(const struct mix *mix, struct page_encoder *encoder, struct link *link,
                 struct result *result)
{
    epoch_t epoch = 1;
    uint64_t bytes = 0;
    nsec_t sending = 0;
    struct encoded_batch out;
    const nsec_t start = clock_now();
    for (size_t i = 0; i < mix->batch_count; i++) {
        const struct batch *batch = &mix->batches[i];
        const nsec_t before = clock_now();
        page_encoder_encode(encoder, batch->gfns, batch->pages, batch->count, false, &out);
        const nsec_t encoded = clock_now();
        size_t size = 0;
        for (int part = 0; part < out.part_count; part++)
            size += out.parts[part].iov_len;
        send_frame(link, FRAME_PAGES, epoch, out.parts, out.part_count);
        const nsec_t sent = clock_now();
        link_cost_sent(page_encoder_link_cost(encoder), size, sent - encoded);
        result->encoding += encoded - before;
        sending += sent - encoded;
        bytes += size;
        if (!batch->last)
            continue;
        uint8_t end = 1;
        struct iovec part = {&end, 1};
        send_frame(link, FRAME_CONTROL, epoch, &part, 1);
        await_ack(link, encoder, bytes, clock_now() - sending);
        result->bytes += bytes;
        bytes = 0;
        sending = 0;
        epoch++;
    }
    result->commit = clock_now() - start;
}

static void compare(const struct mix *mix, const struct gmem *memory)
{
    struct gmem *expected = make_memory();
    for (size_t i = 0; i < mix->batch_count; i++)
        for (size_t page = 0; page < mix->batches[i].count; page++)
            memcpy(gmem_page(expected, mix->batches[i].gfns[page]),
                   mix->batches[i].pages + page * PAGE_SIZE, PAGE_SIZE);
    if (memcmp(gmem_page(expected, 0), gmem_page(memory, 0), MEMORY) != 0) {
        fprintf(stderr, "bench-encodings: %s: the standby holds something else\n", mix->name);
        exit(1);
    }
    gmem_destroy(&expected);
}

static struct result measure(const struct mix *mix, enum page_encoder_mode mode, bool encrypted)
{
    struct result result = {0};
    struct standby standby = {.memory = make_memory()};
    struct page_encoder *encoder;
    struct link *link;
    struct error err;
    const struct page_encoder_config config = {
        .mode = mode, .cache_size = CACHE, .memory = standby.memory};
    if (page_encoder_create(&config, &encoder, &err) < 0)
        die("encoder", &err);
    page_encoder_begin_link(encoder, true, 1);
    connect_pair(encrypted, &link, &standby.link);
    pthread_t thread;
    if (pthread_create(&thread, NULL, standby_main, &standby) != 0)
        die("thread", NULL);
    play(mix, encoder, link, &result);
    link_shutdown(link);
    pthread_join(thread, NULL);
    result.decoding = standby.decoding;
    compare(mix, standby.memory);
    link_destroy(&link);
    link_destroy(&standby.link);
    page_encoder_destroy(&encoder);
    gmem_destroy(&standby.memory);
    return result;
}

static nsec_t measure_copy(const struct mix *mix)
{
    uint8_t *out = get(PAGE_BATCH_MAX * PAGE_SIZE);
    const nsec_t start = clock_now();
    for (size_t i = 0; i < mix->batch_count; i++) {
        memcpy(out, mix->batches[i].pages, mix->batches[i].count * PAGE_SIZE);
        __asm__ volatile("" : : "r"(out) : "memory");
    }
    const nsec_t took = clock_now() - start;
    free(out);
    return took;
}

static void report(const struct mix *mix, bool encrypted)
{
    nsec_t copy = INT64_MAX;
    struct result best[PAGE_ENCODER_SMALLEST + 1];
    for (unsigned round = 0; round < ROUNDS; round++) {
        const nsec_t took = measure_copy(mix);
        copy = took < copy ? took : copy;
        for (int mode = 0; mode <= PAGE_ENCODER_SMALLEST; mode++) {
            const struct result r = measure(mix, (enum page_encoder_mode)mode, encrypted);
            if (round == 0 || r.commit < best[mode].commit)
                best[mode] = r;
        }
    }
    const double pages = (double)mix->pages;
    printf("%s, %s: %llu pages in %llu checkpoints; a copy of a page takes %.2f us\n", mix->name,
           encrypted ? "tls" : "tcp", (unsigned long long)mix->pages,
           (unsigned long long)mix->epochs, (double)copy / pages / 1e3);
    printf("  %-9s %14s %12s %12s %12s %8s\n", "encoding", "sent/dirtied", "encode us", "decode us",
           "commit us", "vs. raw");
    for (int mode = 0; mode <= PAGE_ENCODER_SMALLEST; mode++) {
        const struct result *r = &best[mode];
        printf("  %-9s %14.3f %12.2f %12.2f %12.2f %8.2f\n",
               page_encoder_mode_name((enum page_encoder_mode)mode),
               (double)r->bytes / pages / (double)PAGE_SIZE, (double)r->encoding / pages / 1e3,
               (double)r->decoding / pages / 1e3, (double)r->commit / pages / 1e3,
               (double)r->commit / (double)best[PAGE_ENCODER_RAW].commit);
    }
    printf("\n");
}

static void release(struct mix *mix)
{
    for (size_t i = 0; i < mix->batch_count; i++)
        free(mix->batches[i].pages);
    free(mix->batches);
}

static void make_credentials(void)
{
    uint8_t key[KEY_SIZE];
    struct error err;
    memset(key, 1, sizeof(key));
    if (tls_credentials_create(&(struct tls_config){.key = key}, &credentials, &err) < 0)
        die("credentials", &err);
}

int main(int argc, char **argv)
{
    make_credentials();
    printf(
        "Times per page. Encode: all of it, a zero test at least. Decode: check, verify, apply.\n"
        "Commit: encode, send over loopback, decode, acknowledge; one checkpoint at a "
        "time.\n\n");
    for (int i = 1; i <= argc; i++) {
        struct mix mix = {0};
        if (i < argc)
            load(&mix, argv[i]);
        else
            make_random(&mix);
        report(&mix, false);
        report(&mix, true);
        release(&mix);
    }
    tls_credentials_destroy(&credentials);
    return 0;
}
