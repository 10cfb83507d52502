#include "control/kemarictl_args.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum option_kind { OPTION_FLAG, OPTION_TEXT, OPTION_NUMBER };

struct option_row {
    const char *name;        /* "--json" */
    const char *short_name;  /* "-s", or NULL */
    const char *placeholder; /* of its value; NULL: takes none */
    unsigned takes;          /* bit of the verbs that take it; 0: global */
    enum option_kind kind;
    size_t offset; /* of the member of struct invocation: bool, const char * or uint64_t */
    const char *help;
};

#define FLAG(member)   OPTION_FLAG, offsetof(struct invocation, member)
#define TEXT(member)   OPTION_TEXT, offsetof(struct invocation, member)
#define NUMBER(member) OPTION_NUMBER, offsetof(struct invocation, member)

static const struct option_row options[] = {
    {"--socket", "-s", "PATH", 0, TEXT(socket), "the control socket of the daemon"},
    {"--machine", "-m", "NAME", 0, TEXT(machine),
     "the daemon of that machine (default: the only one there is)"},
    {"--run-dir", "-r", "DIR", 0, TEXT(run_dir),
     "directory of the sockets (default: $KEMARI_RUN_DIR or " KEMARICTL_RUN_DIR ")"},
    {"--help", "-h", NULL, 0, FLAG(help), "show help, of a verb if one is given"},
    {"--json", NULL, NULL, TAKES_JSON, FLAG(json),
     "print JSON (docs/status-json.md); one line per document "
     "where there are several"},
    {"--watch", "-w", NULL, TAKES_WATCH, FLAG(watch),
     "print again every second until interrupted, with small histories"},
    {"--count", NULL, "N", TAKES_WATCH, NUMBER(count), "with --watch: end after so many times"},
    {"--yes", "-y", NULL, TAKES_YES, FLAG(yes), "don't ask"},
    {"--follow", "-f", NULL, TAKES_FOLLOW, FLAG(follow), "go on with what happens from now on"},
    {"--no-wait", NULL, NULL, TAKES_NO_WAIT, FLAG(no_wait), "return once a secondary may come"},
    {"--since", NULL, "WHEN", TAKES_SINCE, TEXT(since),
     "events with a greater number than that; or from a time on, also of earlier runs of the "
     "daemon: "
     "2h, 10:30, \"2025-01-31 10:30\""},
    {"--term", NULL, "TERM", TAKES_TERM, NUMBER(term),
     "refuse unless the question is about this term (default: the open question)"},
    {"--peer", NULL, "COMMAND", TAKES_PEER, TEXT(peer),
     "kemarictl of the other host, \"ssh HOST kemarictl -m NAME\" (default: $KEMARI_PEER_CTL)"},
    {"--need", NULL, "SIZE", TAKES_DOCTOR, TEXT(need),
     "with --peer: what the guest changes per second, such as 50M"},
    {"--answer", NULL, NULL, TAKES_DOCTOR, FLAG(answer),
     "be the other end when doctor on the peer measures the link"},
    {"--force", NULL, NULL, TAKES_DRILL, FLAG(force), "even if the pair might not survive it"},
    {"--seconds", NULL, "N", TAKES_DRILL, NUMBER(seconds),
     "how long the fault lasts at most (default: the scenario's)"},
    {"--state-dir", NULL, "DIR", TAKES_DRILL, TEXT(state_dir),
     "where the daemon keeps its state, when none runs (default: /var/lib/kemari/NAME)"},
    {"--svg", NULL, "FILE", TAKES_DRILL, TEXT(svg), "write the report's timeline as a picture"},
};

static void print_options(unsigned takes, FILE *out)
{
    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        if (options[i].takes != takes && !(options[i].takes & takes))
            continue;
        char left[32];
        snprintf(left, sizeof(left), "%s%s%s%s%s",
                 options[i].short_name ? options[i].short_name : "",
                 options[i].short_name ? ", " : "    ", options[i].name,
                 options[i].placeholder ? " " : "",
                 options[i].placeholder ? options[i].placeholder : "");
        fprintf(out, "  %-20s %s\n", left, options[i].help);
    }
}

/* Its length. */
static int first_sentence(const char *text)
{
    const char *end = strstr(text, ". ");
    return (int)(end ? (size_t)(end - text) + 1 : strlen(text));
}

void kemarictl_print_help(const struct invocation *inv, const struct verb *const *verbs,
                          size_t verb_count)
{
    const struct verb *verb = inv->verb;
    FILE *out = inv->out;
    if (verb) {
        fprintf(out, "usage: kemarictl [-s SOCKET | -m NAME] %s%s%s%s\n\n%s\n", verb->name,
                verb->takes ? " [OPTION]..." : "", verb->words ? " " : "",
                verb->words ? verb->words : "", verb->help);
        if (verb->takes) {
            fputs("\nOptions:\n", out);
            print_options(verb->takes, out);
        }
    } else {
        fputs("usage: kemarictl [-s SOCKET | -m NAME] VERB [OPTION]...\n\n"
              "Talks to a kemarid on this host.\n\nVerbs:\n",
              out);
        for (size_t i = 0; i < verb_count; i++)
            fprintf(out, "  %-10s %.*s\n", verbs[i]->name, first_sentence(verbs[i]->help),
                    verbs[i]->help);
    }
    fputs("\nGlobal options:\n", out);
    print_options(0, out);
    fputs("\nExit status: 0 done, 1 refused or failed, 2 wrong command line, 3 no daemon there,\n"
          "4 the daemon is not understood.\n",
          out);
}

static const struct option_row *find_option(const char *word, size_t length)
{
    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        const char *names[] = {options[i].name, options[i].short_name};
        for (size_t n = 0; n < ARRAY_SIZE(names); n++)
            if (names[n] && strlen(names[n]) == length && strncmp(names[n], word, length) == 0)
                return &options[i];
    }
    return NULL;
}

static bool parse_number(const char *text, uint64_t *out)
{
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && errno == 0;
}

/* False when the value is not right. */
static bool set_option(struct invocation *inv, const struct option_row *option, const char *value)
{
    void *member = (char *)inv + option->offset;
    switch (option->kind) {
    case OPTION_FLAG:
        *(bool *)member = true;
        return true;
    case OPTION_TEXT:
        *(const char **)member = value;
        return true;
    case OPTION_NUMBER:
        break;
    }
    return parse_number(value, member);
}

static bool usage_error(const struct invocation *inv, const char *what, const char *word)
{
    fprintf(inv->err, "kemarictl: %s: %s (try --help)\n", word, what);
    return false;
}

/* argv[*index] is an option: checks and stores it, and steps over its value. `given` collects the
 * TAKES_ bits, which are checked once the verb is known. */
static bool parse_option(struct invocation *inv, int argc, char **argv, int *index, unsigned *given)
{
    const char *word = argv[*index];
    const char *equals = word[1] == '-' ? strchr(word, '=') : NULL;
    const size_t length = equals ? (size_t)(equals - word) : strlen(word);
    const struct option_row *option = find_option(word, length);
    if (!option)
        return usage_error(inv, "there is no such option", word);
    const char *value = equals ? equals + 1 : NULL;
    if (value && !option->placeholder)
        return usage_error(inv, "this option takes no value", option->name);
    if (!value && option->placeholder) {
        if (++*index >= argc)
            return usage_error(inv, "the value is missing", word);
        value = argv[*index];
    }
    *given |= option->takes;
    return set_option(inv, option, value) ||
           usage_error(inv, "the value is not a number", option->name);
}

static bool parse_verb(struct invocation *inv, const struct verb *const *verbs, size_t verb_count,
                       const char *word)
{
    if (inv->verb && inv->verb->words && inv->word_count < INVOCATION_WORDS_MAX) {
        inv->words[inv->word_count++] = word;
        return true;
    }
    if (inv->verb)
        return usage_error(inv, "one verb is enough", word);
    for (size_t i = 0; i < verb_count && !inv->verb; i++)
        if (strcmp(verbs[i]->name, word) == 0)
            inv->verb = verbs[i];
    return inv->verb || usage_error(inv, "there is no such verb", word);
}

bool kemarictl_parse(struct invocation *inv, const struct verb *const *verbs, size_t verb_count,
                     int argc, char **argv)
{
    unsigned given = 0;
    for (int i = 1; i < argc; i++) {
        const bool ok = argv[i][0] == '-' && argv[i][1]
                            ? parse_option(inv, argc, argv, &i, &given)
                            : parse_verb(inv, verbs, verb_count, argv[i]);
        if (!ok)
            return false;
    }
    if (inv->help)
        return true;
    if (!inv->verb)
        return usage_error(inv, "what is to be done?", "no verb");
    for (size_t i = 0; i < ARRAY_SIZE(options); i++)
        if (options[i].takes & given & ~inv->verb->takes)
            return usage_error(inv, "this verb does not take the option", options[i].name);
    if (inv->socket && inv->machine)
        return usage_error(inv, "only one of the two can be meant", "--socket and --machine");
    return true;
}
