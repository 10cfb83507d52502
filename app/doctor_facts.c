/* What two hosts tell each other, and what must agree. */
#include "app/doctor_facts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "vmm/cpuid.h"
#include "vmm/machine.h"

#define JSON_LARGEST ((size_t)1 << 20)

static const char *const registers[] = {"eax", "ebx", "ecx", "edx"};

/* The words and numbers of the JSON, in its order. */
static const struct {
    const char *key;
    size_t offset;
    bool is_word;
} fields[] = {
    {"version", offsetof(struct doctor_facts, version), true},
    {"kernel", offsetof(struct doctor_facts, kernel), true},
    {"clock", offsetof(struct doctor_facts, clock), true},
    {"machine", offsetof(struct doctor_facts, machine), true},
    {"listen", offsetof(struct doctor_facts, listen), true},
    {"peer", offsetof(struct doctor_facts, peer), true},
    {"memory", offsetof(struct doctor_facts, memory), false},
    {"vcpus", offsetof(struct doctor_facts, vcpus), false},
    {"tsc_khz", offsetof(struct doctor_facts, tsc_khz), false},
    {"heartbeat_interval_ns", offsetof(struct doctor_facts, heartbeat_interval), false},
};

static void set_word(char out[DOCTOR_WORD_MAX], const char *word)
{
    snprintf(out, DOCTOR_WORD_MAX, "%s", word ? word : "");
}

void doctor_facts_begin(const struct config *config, struct doctor_facts *facts)
{
    struct utsname kernel;
    *facts = (struct doctor_facts){.memory = config->memory,
                                   .vcpus = config->vcpus,
                                   .heartbeat_interval = (uint64_t)config->heartbeat_interval};
    set_word(facts->version, KEMARI_VERSION);
    set_word(facts->kernel, uname(&kernel) == 0 ? kernel.release : "");
    set_word(facts->machine, config->machine == CONFIG_MACHINE_QEMU ? "qemu" : "kvm");
    set_word(facts->listen, config->listen.text);
    set_word(facts->peer, config->peer.text);
}

void doctor_facts_take_cpuid(const struct cpuid_table *table, struct doctor_facts *facts)
{
    facts->leaf_count = 0;
    for (uint32_t i = 0; i < table->head.nent && facts->leaf_count < DOCTOR_CPUID_MAX; i++) {
        const struct kvm_cpuid_entry2 *e = &table->entries[i];
        facts->leaves[facts->leaf_count++] =
            (struct doctor_leaf){e->function, e->index, {e->eax, e->ebx, e->ecx, e->edx}};
    }
}

json_t *doctor_facts_json(const struct doctor_facts *facts)
{
    json_t *json = json_object(), *disks = json_array(), *leaves = json_array();
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        const void *member = (const char *)facts + fields[i].offset;
        json_object_set_new(json, fields[i].key,
                            fields[i].is_word
                                ? json_string(member)
                                : json_integer((json_int_t) * (const uint64_t *)member));
    }
    for (unsigned i = 0; i < facts->disk_count; i++)
        json_array_append_new(disks, json_integer((json_int_t)facts->disks[i]));
    for (unsigned i = 0; i < facts->leaf_count; i++) {
        const struct doctor_leaf *l = &facts->leaves[i];
        const uint32_t numbers[] = {l->function,     l->index,        l->registers[0],
                                    l->registers[1], l->registers[2], l->registers[3]};
        json_t *row = json_array();
        for (size_t n = 0; n < ARRAY_SIZE(numbers); n++)
            json_array_append_new(row, json_integer(numbers[n]));
        json_array_append_new(leaves, row);
    }
    json_object_set_new(json, "tsc_scaling", json_boolean(facts->tsc_scaling));
    json_object_set_new(json, "disks", disks);
    json_object_set_new(json, "cpuid", leaves);
    return json;
}

/* ---- reading ---- */

static bool take_leaf(const json_t *row, struct doctor_leaf *out)
{
    uint32_t numbers[6];
    if (json_array_size(row) != ARRAY_SIZE(numbers))
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        const json_t *number = json_array_get(row, i);
        const json_int_t value = json_integer_value(number);
        if (!json_is_integer(number) || value < 0 || value > UINT32_MAX)
            return false;
        numbers[i] = (uint32_t)value;
    }
    *out = (struct doctor_leaf){
        numbers[0], numbers[1], {numbers[2], numbers[3], numbers[4], numbers[5]}};
    return true;
}

/* What goes to a terminal. */
static bool is_plain(const char *word)
{
    for (; *word; word++)
        if (*word < ' ' || *word > '~')
            return false;
    return true;
}

static bool take_facts(const json_t *json, struct doctor_facts *out)
{
    const json_t *disks = json_object_get(json, "disks"), *leaves = json_object_get(json, "cpuid");
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        const json_t *value = json_object_get(json, fields[i].key);
        void *member = (char *)out + fields[i].offset;
        if (fields[i].is_word ? !json_is_string(value) || !is_plain(json_string_value(value)) ||
                                    json_string_length(value) >= DOCTOR_WORD_MAX
                              : !json_is_integer(value) || json_integer_value(value) < 0)
            return false;
        if (fields[i].is_word)
            set_word(member, json_string_value(value));
        else
            *(uint64_t *)member = (uint64_t)json_integer_value(value);
    }
    out->tsc_scaling = json_is_true(json_object_get(json, "tsc_scaling"));
    if (!json_is_array(disks) || !json_is_array(leaves) ||
        json_array_size(disks) > CONFIG_DISKS_MAX || json_array_size(leaves) > DOCTOR_CPUID_MAX)
        return false;
    out->disk_count = (unsigned)json_array_size(disks);
    for (unsigned i = 0; i < out->disk_count; i++) {
        const json_t *size = json_array_get(disks, i);
        if (!json_is_integer(size) || json_integer_value(size) < 0)
            return false;
        out->disks[i] = (uint64_t)json_integer_value(size);
    }
    out->leaf_count = (unsigned)json_array_size(leaves);
    for (unsigned i = 0; i < out->leaf_count; i++)
        if (!take_leaf(json_array_get(leaves, i), &out->leaves[i]))
            return false;
    return true;
}

/* "disk-refused, tap-missing" */
static void list_problems(const json_t *checks, char *out, size_t size)
{
    size_t used = 0;
    *out = '\0';
    for (size_t i = 0; i < json_array_size(checks); i++) {
        const json_t *check = json_array_get(checks, i);
        const char *verdict = json_string_value(json_object_get(check, "verdict"));
        const char *reason = json_string_value(json_object_get(check, "reason"));
        if (!verdict || !reason || strcmp(verdict, "problem") != 0 || !is_plain(reason))
            continue;
        const int n = snprintf(out + used, size - used, "%s%s", used ? ", " : "", reason);
        if (n < 0 || (size_t)n >= size - used)
            return;
        used += (size_t)n;
    }
}

int doctor_facts_parse(const char *text, struct doctor_facts *peer, bool *can_protect,
                       char *reasons, size_t size, struct error *err)
{
    const size_t length = strnlen(text, JSON_LARGEST);
    json_t *json = length < JSON_LARGEST ? json_loadb(text, length, 0, NULL) : NULL;
    *peer = (struct doctor_facts){0};
    const bool good = take_facts(json_object_get(json, "facts"), peer);
    *can_protect = json_is_true(json_object_get(json, "can_protect"));
    list_problems(json_object_get(json, "checks"), reasons, size);
    json_decref(json);
    if (good)
        return 0;
    *peer = (struct doctor_facts){0};
    return error_set(err, -EBADMSG, "what it printed is no report of a kemarictl like this one");
}

/* ---- judging ---- */

static const struct doctor_leaf *find_leaf(const struct doctor_facts *facts,
                                           const struct doctor_leaf *like)
{
    for (unsigned i = 0; i < facts->leaf_count; i++)
        if (facts->leaves[i].function == like->function && facts->leaves[i].index == like->index)
            return &facts->leaves[i];
    return NULL;
}

/* The first leaf of `a` that `b` hasn't got equally. */
static bool find_difference(const struct doctor_facts *a, const struct doctor_facts *b,
                            struct doctor_leaf *mine, struct doctor_leaf *theirs)
{
    for (unsigned i = 0; i < a->leaf_count; i++) {
        const struct doctor_leaf *l = find_leaf(b, &a->leaves[i]);
        *mine = a->leaves[i];
        *theirs = l ? *l : (struct doctor_leaf){mine->function, mine->index, {0}};
        if (memcmp(mine, theirs, sizeof(*mine)) != 0)
            return true;
    }
    return false;
}

static void judge_cpu(const struct doctor_facts *own, const struct doctor_facts *peer,
                      struct doctor_report *report)
{
    struct doctor_leaf mine, theirs;
    if (!own->leaf_count || !peer->leaf_count)
        return; /* "not compared" stays */
    bool differs = find_difference(own, peer, &mine, &theirs);
    if (!differs)
        differs = find_difference(peer, own, &theirs, &mine);
    if (!differs) {
        doctor_say_instead(report, "cpu", DOCTOR_FINE,
                           "guests see the same processor on both hosts (%u leaves of cpuid)",
                           own->leaf_count);
        return;
    }
    unsigned r = 0;
    while (r < 3 && mine.registers[r] == theirs.registers[r])
        r++;
    doctor_say_instead(
        report, "cpu", DOCTOR_CPU_DIFFERS,
        "cpuid leaf %#" PRIx32 ".%" PRIu32 " %s is %#" PRIx32 " here and %#" PRIx32 " there",
        mine.function, mine.index, registers[r], mine.registers[r], theirs.registers[r]);
}

static void judge_clocks(const struct doctor_facts *own, const struct doctor_facts *peer,
                         struct doctor_report *report)
{
    const uint64_t a = own->tsc_khz, b = peer->tsc_khz;
    const uint64_t distance = a > b ? a - b : b - a, slower = a < b ? a : b;
    if (a && b)
        doctor_say(report, "tsc", "",
                   (own->tsc_scaling && peer->tsc_scaling) ||
                           (unsigned __int128)distance * 1000000 <=
                               (unsigned __int128)slower * MACHINE_TSC_TOLERANCE_PPM
                       ? DOCTOR_FINE
                       : DOCTOR_TSC_DIFFERS,
                   "a guest's TSC runs at %" PRIu64 " kHz here and %" PRIu64
                   " there; scaling: here %s, there %s",
                   a, b, own->tsc_scaling ? "yes" : "no", peer->tsc_scaling ? "yes" : "no");
    if (own->clock[0] && peer->clock[0] && strcmp(own->clock, peer->clock) != 0)
        doctor_say(report, "clocks", "", DOCTOR_CLOCKS_DIFFER,
                   "the clock source is %s here and %s there", own->clock, peer->clock);
}

static bool name_difference(const struct doctor_facts *own, const struct doctor_facts *peer,
                            char out[DOCTOR_FOUND_MAX])
{
    const size_t size = DOCTOR_FOUND_MAX;
    if (strcmp(own->machine, peer->machine) != 0)
        snprintf(out, size, "type is %s here and %s there", own->machine, peer->machine);
    else if (own->memory != peer->memory)
        snprintf(out, size, "memory is %" PRIu64 " bytes here and %" PRIu64 " there", own->memory,
                 peer->memory);
    else if (own->vcpus != peer->vcpus)
        snprintf(out, size, "vcpus is %" PRIu64 " here and %" PRIu64 " there", own->vcpus,
                 peer->vcpus);
    else if (own->disk_count != peer->disk_count)
        snprintf(out, size, "there are %u disks here and %u there", own->disk_count,
                 peer->disk_count);
    else if (strcmp(own->listen, peer->peer) != 0 || strcmp(own->peer, peer->listen) != 0)
        snprintf(out, size, "here listen is %s and peer %s, there %s and %s", own->listen,
                 own->peer, peer->listen, peer->peer);
    else
        return false;
    return true;
}

static void judge_machine(const struct doctor_facts *own, const struct doctor_facts *peer,
                          struct doctor_report *report)
{
    char text[DOCTOR_FOUND_MAX];
    if (name_difference(own, peer, text)) {
        doctor_say(report, "machine", "", DOCTOR_MACHINE_DIFFERS, "%s", text);
        return;
    }
    for (unsigned i = 0; i < own->disk_count; i++)
        if (own->disks[i] && peer->disks[i] && own->disks[i] != peer->disks[i]) {
            doctor_say(report, "machine", "", DOCTOR_MACHINE_DIFFERS,
                       "disk.%u has %" PRIu64 " bytes here and %" PRIu64 " there", i, own->disks[i],
                       peer->disks[i]);
            return;
        }
    doctor_say(report, "machine", "", DOCTOR_FINE,
               "type, memory, vcpus, disks and addresses agree on both hosts");
}

void doctor_facts_judge(const struct doctor_facts *own, const struct doctor_facts *peer,
                        struct doctor_report *report)
{
    judge_cpu(own, peer, report);
    judge_clocks(own, peer, report);
    judge_machine(own, peer, report);
    doctor_say(report, "peer-versions", "",
               strcmp(own->version, peer->version) == 0 ? DOCTOR_FINE : DOCTOR_VERSIONS_DIFFER,
               "kemari %s here and %s there, Linux %s here and %s there", own->version,
               peer->version, own->kernel, peer->kernel);
}
