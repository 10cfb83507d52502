#include "app/config_help.h"

#include <string.h>

#include "app/config_value.h"

#define HELP_COLUMN 4
#define HELP_WIDTH  96

static const struct {
    const char *section;
    const char *about;
} sections[] = {
    {"vm", "The virtual machine and this daemon."},
    {"machine", "What the guest sees. Equal on both hosts, except for paths and tap names."},
    {"replication", "How checkpoints are taken and where they go."},
    {"tls", "How the hosts authenticate each other, and encrypt, on tls:// and rdma+tls:// addresses."},
    {"heartbeat", "How the hosts notice each other's end."},
    {"arbiter", "Who decides which host may go on alone."},
    {"drill", "What a drill needs of this host's owner (docs/drills.md)."},
};

static void print_wrapped(const char *text, FILE *out)
{
    size_t column = 0;
    while (*text) {
        const size_t word = strcspn(text, " ");
        if (column && column + 1 + word > HELP_WIDTH - HELP_COLUMN) {
            fputc('\n', out);
            column = 0;
        }
        fprintf(out, "%*s%.*s", column ? 1 : HELP_COLUMN, "", (int)word, text);
        column += word + (column ? 1 : 0);
        text += word + (text[word] == ' ');
    }
    fputc('\n', out);
}

static void format_limit(const struct config_option *option, uint64_t value,
                         char out[CONFIG_VALUE_TEXT_MAX])
{
    if (option->kind == CONFIG_KIND_BYTES)
        config_format_bytes(value, out);
    else if (option->kind == CONFIG_KIND_DURATION)
        config_format_duration((nsec_t)value, out);
    else
        snprintf(out, CONFIG_VALUE_TEXT_MAX, "%u", (unsigned)value);
}

/* "1 to 64", "held or free", "N from 0 to 7"; empty when anything goes. */
static void format_range(const struct config_option *option, char out[CONFIG_VALUE_TEXT_MAX])
{
    char low[CONFIG_VALUE_TEXT_MAX], high[CONFIG_VALUE_TEXT_MAX];
    *out = '\0';
    if (option->instances)
        snprintf(out, CONFIG_VALUE_TEXT_MAX, "N from 0 to %u", option->instances - 1);
    for (unsigned i = 0; option->names && option->names[i]; i++) {
        const size_t used = strlen(out);
        snprintf(out + used, CONFIG_VALUE_TEXT_MAX - used, "%s%s", i ? ", " : "", option->names[i]);
    }
    if (option->max) {
        format_limit(option, option->min, low);
        format_limit(option, option->max, high);
        snprintf(out, CONFIG_VALUE_TEXT_MAX, "%.64s to %.64s", low, high);
    }
}

static const char *format_default(const struct config_option *option)
{
    if (option->fallback)
        return option->fallback;
    if (option->fallback_text)
        return option->fallback_text;
    return option->required ? "none, needed" : "none";
}

static void print_option(const struct config_option *option, FILE *out)
{
    char range[CONFIG_VALUE_TEXT_MAX];
    format_range(option, range);
    fprintf(out, "  --%s%s %s\n", option->flag, option->instances ? ".N" : "", option->placeholder);
    print_wrapped(option->help, out);
    fprintf(out, "%*s", HELP_COLUMN, "");
    if (*range)
        fprintf(out, "[%s; default: %s]\n", range, format_default(option));
    else
        fprintf(out, "[default: %s]\n", format_default(option));
}

void config_print_help(FILE *out)
{
    fputs(
        "usage: kemarid [--config FILE] [--OPTION VALUE]...\n\n"
        "Runs one virtual machine's primary or secondary.  An option is \"[section] key = value\"\n"
        "in FILE, or a flag; a flag wins over the file.  kemarictl is the tool to talk to it.\n\n"
        "  -c, --config FILE    read options from FILE\n"
        "  -h, --help           show this text\n"
        "  -V, --version        show the version\n"
        "  --print-config       check everything, show the effective configuration, and exit\n"
        "  --help-markdown      show the reference of all options as Markdown\n"
        "  --probe              show what the KVM of this host is good for; exit status 0: boots "
        "Linux,\n"
        "                       3: runs small guests only, 4: can't be used\n\n"
        "SIGTERM and SIGINT do what \"kemarictl stop\" does.\n",
        out);
    for (size_t s = 0; s < ARRAY_SIZE(sections); s++) {
        fprintf(out, "\n[%s] %s\n", sections[s].section, sections[s].about);
        for (size_t i = 0; i < config_option_count; i++)
            if (strcmp(config_options[i].section, sections[s].section) == 0)
                print_option(&config_options[i], out);
    }
}

/* "|" separates cells. */
static void print_cell(const char *text, FILE *out)
{
    for (; *text; text++)
        fprintf(out, *text == '|' ? "\\%c" : "%c", *text);
}

static void print_row(const struct config_option *option, FILE *out)
{
    char range[CONFIG_VALUE_TEXT_MAX];
    const char *number = option->instances ? ".N" : "";
    format_range(option, range);
    fprintf(out, "| `%s%s` | `--%s%s` | `", option->key, number, option->flag, number);
    print_cell(option->placeholder, out);
    fprintf(out, "` | %s | %s | %s |\n", format_default(option), range, option->help);
}

void config_print_markdown(FILE *out)
{
    fputs(
        "# Configuration of kemarid\n\n"
        "<!-- Generated from the option table (app/config_table.c) by `kemarid --help-markdown`;\n"
        "     a test compares. -->\n\n"
        "`kemarid --config FILE [--OPTION VALUE]...`. The file is an INI file: sections in "
        "brackets, one\n`key = value` per line up to its end, comments on lines of their own "
        "that begin with `#` or `;`.\nEvery key is also a flag. A flag wins over the file; "
        "within each, an option is given once.\nUnknown names, values out of range and files "
        "that can't be used are refused at the start with their\nplace. `--print-config` "
        "checks all of it and shows the result.\n\n"
        "Sizes take `K`, `M`, `G`, `T` (powers of 1024), times need `ns`, `us`, `ms`, `s` or "
        "`min`. Network\naddresses are numeric; IPv6 in brackets.\n",
        out);
    for (size_t s = 0; s < ARRAY_SIZE(sections); s++) {
        fprintf(out,
                "\n## [%s]\n\n%s\n\n| key | flag | value | default | range | meaning |\n"
                "|---|---|---|---|---|---|\n",
                sections[s].section, sections[s].about);
        for (size_t i = 0; i < config_option_count; i++)
            if (strcmp(config_options[i].section, sections[s].section) == 0)
                print_row(&config_options[i], out);
    }
}

void config_print(const struct config *config, FILE *out)
{
    char value[2 * CONFIG_VALUE_TEXT_MAX + 4096];
    const char *section = "";
    for (size_t i = 0; i < config_option_count; i++) {
        const struct config_option *option = &config_options[i];
        if (strcmp(section, option->section) != 0)
            fprintf(out, "%s[%s]\n", *section ? "\n" : "", option->section);
        section = option->section;
        const unsigned count = config_option_instances(option, config);
        for (unsigned n = 0; n < count; n++) {
            if (!config_option_format(option, n, config, value, sizeof(value)))
                continue;
            fprintf(out, "%s", option->key);
            if (option->instances)
                fprintf(out, ".%u", n);
            fprintf(out, " = %s\n", value);
        }
    }
}
