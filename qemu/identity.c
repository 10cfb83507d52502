/* What must be equal on both hosts, as lines for the handshake. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/fd.h"
#include "qemu/internal.h"
#include "qemu/version.h"

#define WORDS_SHOWN 1024
#define FILE_CHUNK  (256u << 10)

static void __attribute__((format(printf, 2, 3)))
add(struct qemu_machine *m, const char *format, ...)
{
    const size_t used = strlen(m->identity);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(m->identity + used, sizeof(m->identity) - used, format, arguments);
    va_end(arguments);
}

/* The distribution's build is a part of the version: its patches may change a device's state. */
static int add_version(struct qemu_machine *m, struct error *err)
{
    json_t *answer = NULL;
    const int rc =
        qmp_call(m->session.control, "query-version", NULL, &answer, QEMU_START_TIMEOUT, err);
    const json_t *number = json_object_get(answer, "qemu");
    const char *package = json_string_value(json_object_get(answer, "package"));
    if (rc == 0)
        add(m,
            "qemu=%" JSON_INTEGER_FORMAT ".%" JSON_INTEGER_FORMAT ".%" JSON_INTEGER_FORMAT
            " %.100s\n",
            json_integer_value(json_object_get(number, "major")),
            json_integer_value(json_object_get(number, "minor")),
            json_integer_value(json_object_get(number, "micro")), package ? package : "");
    const struct qemu_version version = {
        .major = (unsigned)json_integer_value(json_object_get(number, "major")),
        .minor = (unsigned)json_integer_value(json_object_get(number, "minor"))};
    json_decref(answer);
    return rc == 0 && qemu_version_is_old(&version)
               ? error_set(err, -ENOTSUP, "QEMU %u.%u is too old: %u.%u or newer is needed",
                           version.major, version.minor, QEMU_VERSION_MIN_MAJOR,
                           QEMU_VERSION_MIN_MINOR)
               : rc;
}

static uint64_t digest_of(const json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    const uint64_t digest = text ? XXH3_64bits(text, strlen(text)) : 0;
    free(text);
    return digest;
}

/* What the guest's processors can do, after the accelerator and the host had their say. */
static int add_features(struct qemu_machine *m, struct error *err)
{
    json_t *cpus = NULL, *words = NULL;
    int rc = qmp_call(m->session.control, "query-cpus-fast", NULL, &cpus, QEMU_START_TIMEOUT, err);
    const char *path = json_string_value(json_object_get(json_array_get(cpus, 0), "qom-path"));
    if (rc == 0)
        rc = path ? qmp_call(m->session.control, "qom-get",
                             json_pack("{s:s, s:s}", "path", path, "property", "feature-words"),
                             &words, QEMU_START_TIMEOUT, err)
                  : error_set(err, -EBADMSG, "query-cpus-fast: no processor is told");
    if (rc == 0)
        add(m, "cpu-features=%016" PRIx64 "\n", digest_of(words));
    json_decref(words);
    json_decref(cpus);
    return rc;
}

static int add_file(struct qemu_machine *m, const char *key, const char *path, struct error *err)
{
    if (!path)
        return 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    XXH3_state_t *state = XXH3_createState();
    uint8_t *chunk = malloc(FILE_CHUNK);
    ssize_t count = -1;
    if (fd >= 0 && state && chunk && XXH3_64bits_reset(state) == XXH_OK)
        while ((count = read(fd, chunk, FILE_CHUNK)) > 0)
            XXH3_64bits_update(state, chunk, (size_t)count);
    const int rc = count == 0 ? 0 : error_set(err, -EIO, "%s %s: %s", key, path, strerror(errno));
    if (rc == 0)
        add(m, "%s=%016" PRIx64 "\n", key, (uint64_t)XXH3_64bits_digest(state));
    free(chunk);
    XXH3_freeState(state);
    fd_close(&fd);
    return rc;
}

/* The path of the program may differ between hosts. */
static void add_words(struct qemu_machine *m)
{
    XXH64_hash_t digest = 0;
    char text[WORDS_SHOWN] = "";
    size_t used = 0;
    for (const char *const *word = m->config.command.words + 1; *word; word++) {
        digest = XXH3_64bits_withSeed(*word, strlen(*word) + 1, digest);
        for (const char *c = *word; *c && used + 2 < sizeof(text); c++)
            text[used++] = *c > ' ' && *c < 0x7f ? *c : '?';
        if (used + 2 < sizeof(text))
            text[used++] = ' ';
    }
    add(m, "arguments=%s(%016" PRIx64 ")\n", text, (uint64_t)digest);
}

int identity_make(struct qemu_machine *m, struct error *err)
{
    const struct qemu_command *c = &m->config.command;
    static const char *const panic[] = {"restart", "stop", "ignore"};
    add(m, "machine=qemu\nvcpus=%u\n", c->vcpus);
    int rc = add_version(m, err);
    if (rc == 0)
        rc = add_features(m, err);
    add_words(m);
    for (unsigned i = 0; i < c->net_count; i++)
        add(m, "net%u=%s %02x:%02x:%02x:%02x:%02x:%02x\n", i, c->net_device, c->macs[i][0],
            c->macs[i][1], c->macs[i][2], c->macs[i][3], c->macs[i][4], c->macs[i][5]);
    for (unsigned i = 0; i < c->disk_count; i++)
        add(m, "disk%u=%s %llu%s\n", i, c->disk_device, (unsigned long long)m->config.disk_sizes[i],
            c->disks_read_only[i] ? " read-only" : "");
    add(m, "on-panic=%s\n", panic[m->config.on_panic]);
    /* Only here: a host whose kemarid doesn't know it can't take such a state. */
    if (m->own_memory)
        add(m, "cut=migration\n");
    add(m, "firmware=%016" PRIx64 "\n", (uint64_t)XXH3_64bits(m->firmware, m->firmware_size));
    if (c->command_line)
        add(m, "cmdline=%016" PRIx64 "\n",
            (uint64_t)XXH3_64bits(c->command_line, strlen(c->command_line)));
    if (rc == 0)
        rc = add_file(m, "kernel", c->kernel, err);
    return rc == 0 ? add_file(m, "initrd", c->initrd, err) : rc;
}
