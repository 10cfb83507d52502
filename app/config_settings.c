/* inih splits lines; everything it would pass over in silence is caught in the reader below, which
 * sees each line first and counts: inih as Debian builds it does not tell its handler the line.
 * Continuation lines and comments after a value are switched off, so that a value is what stands
 * between "=" and the end of its line. */
#include "app/config_settings.h"

#include <errno.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Both sides of every instance of every option. */
#define SETTINGS_MAX 256

enum side { SIDE_FILE, SIDE_FLAG, SIDE_OTHER };

struct setting {
    const struct config_option *option;
    unsigned instance;
    enum side side;
    unsigned line; /* in the file */
    char *value;   /* owned */
};

struct config_settings {
    char *file;  /* name in messages, owned; NULL before a file was read */
    char *other; /* likewise, of config_settings_add() */
    size_t count;
    struct setting list[SETTINGS_MAX];
};

struct config_settings *config_settings_create(void)
{
    return calloc(1, sizeof(struct config_settings));
}

void config_settings_destroy(struct config_settings **settings)
{
    if (!*settings)
        return;
    for (size_t i = 0; i < (*settings)->count; i++)
        free((*settings)->list[i].value);
    free((*settings)->file);
    free((*settings)->other);
    free(*settings);
    *settings = NULL;
}

static const struct setting *find(const struct config_settings *settings,
                                  const struct config_option *option, unsigned instance,
                                  enum side side)
{
    for (size_t i = 0; i < settings->count; i++) {
        const struct setting *s = &settings->list[i];
        if (s->option == option && s->instance == instance && s->side == side)
            return s;
    }
    return NULL;
}

static bool has_control_character(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            return true;
    return false;
}

/* `err` receives a phrase without place. */
static int store(struct config_settings *settings, struct setting setting, const char *value,
                 struct error *err)
{
    const struct setting *before = find(settings, setting.option, setting.instance, setting.side);
    if (before && before->side == SIDE_FILE)
        return error_set(err, -EINVAL, "given twice, first on line %u", before->line);
    if (before)
        return error_set(err, -EINVAL, "given twice");
    if (!*value)
        return error_set(err, -EINVAL, "the value is empty");
    if (has_control_character(value))
        return error_set(err, -EINVAL, "the value contains a control character");
    setting.value = strdup(value);
    if (!setting.value || settings->count == SETTINGS_MAX) {
        free(setting.value);
        return error_set(err, -ENOMEM, "out of memory");
    }
    settings->list[settings->count++] = setting;
    return 0;
}

/* State of one file being read. */
struct ini_source {
    struct config_settings *settings;
    const char *text;
    size_t size;
    size_t used;
    unsigned line; /* number of the line last handed out */
    struct error *err;
    bool failed; /* `err` is set; the rest of the file is not read */
};

static void fail_line(struct ini_source *source, const char *phrase)
{
    source->failed = true;
    error_set(source->err, -EINVAL, "%s:%u: %s", source->settings->file, source->line, phrase);
}

/* fgets() for inih: one whole line per call. */
static char *read_line(char *buffer, int size, void *stream)
{
    struct ini_source *source = stream;
    if (source->failed || source->used == source->size)
        return NULL;
    const char *start = source->text + source->used;
    const char *newline = memchr(start, '\n', source->size - source->used);
    const size_t length = newline ? (size_t)(newline - start) + 1 : source->size - source->used;
    source->line++;
    source->used += length;
    /* inih keeps room for "\r\n" and a zero. */
    if (length + 3 > (size_t)size)
        fail_line(source, "the line is too long");
    else if (memchr(start, '\0', length))
        fail_line(source, "the line contains a zero byte");
    if (source->failed)
        return NULL;
    memcpy(buffer, start, length);
    buffer[length] = '\0';
    return buffer;
}

/* inih's handler: non-zero goes on. */
static int take_setting(void *context, const char *section, const char *name, const char *value)
{
    struct ini_source *source = context;
    const char *file = source->settings->file;
    if (source->failed)
        return 0;
    struct setting setting = {.side = SIDE_FILE, .line = source->line};
    setting.option = config_option_find(section, name, &setting.instance);
    if (!*section) {
        fail_line(source, "a key stands before the first [section]");
    } else if (!setting.option) {
        source->failed = true;
        error_set(source->err, -EINVAL, "%s:%u: there is no option %s in section [%s]", file,
                  source->line, name, section);
    } else if (store(source->settings, setting, value, source->err) < 0) {
        source->failed = true;
        error_prefix(source->err, "%s:%u: %s", file, source->line, name);
    }
    return !source->failed;
}

int config_settings_read_text(struct config_settings *settings, const char *name, const char *text,
                              size_t size, struct error *err)
{
    struct error local = {0};
    struct ini_source source = {
        .settings = settings, .text = text, .size = size, .err = err ? err : &local};
    free(settings->file);
    settings->file = strdup(name);
    if (!settings->file)
        return error_set(err, -ENOMEM, "out of memory");
    ini_use_stack = false;
    ini_allow_realloc = false;
    ini_max_line = CONFIG_LINE_MAX;
    ini_initial_alloc = CONFIG_LINE_MAX;
    ini_allow_multiline = false;
    ini_allow_inline_comments = false;
    ini_stop_on_first_error = true;
    const int rc = ini_parse_stream(read_line, &source, take_setting, &source);
    if (source.failed)
        return source.err->code;
    if (rc == -2)
        return error_set(err, -ENOMEM, "out of memory");
    if (rc != 0)
        return error_set(err, -EINVAL, "%s:%d: neither \"[section]\" nor \"key = value\"", name,
                         rc);
    return 0;
}

int config_settings_read_file(struct config_settings *settings, const char *path, struct error *err)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return error_set(err, -errno, "configuration file %s: %s", path, strerror(errno));
    int rc = 0;
    char *text = malloc(CONFIG_FILE_SIZE_MAX + 1);
    const size_t size = text ? fread(text, 1, CONFIG_FILE_SIZE_MAX + 1, file) : 0;
    if (!text)
        rc = error_set(err, -ENOMEM, "out of memory");
    else if (ferror(file))
        rc = error_set(err, -EIO, "configuration file %s: %s", path, strerror(errno));
    else if (size > CONFIG_FILE_SIZE_MAX)
        rc = error_set(err, -EFBIG, "configuration file %s: larger than 1 MiB", path);
    else
        rc = config_settings_read_text(settings, path, text, size, err);
    free(text);
    fclose(file);
    return rc;
}

int config_settings_read_flag(struct config_settings *settings, const char *name, const char *value,
                              struct error *err)
{
    struct setting setting = {.side = SIDE_FLAG};
    setting.option = config_option_find(NULL, name, &setting.instance);
    if (!setting.option)
        return error_set(err, -EINVAL, "--%s: there is no such option", name);
    if (!value)
        return error_set(err, -EINVAL, "--%s: the value is missing", name);
    if (store(settings, setting, value, err) < 0)
        return error_prefix(err, "--%s", name);
    return 0;
}

static const struct setting *effective(const struct config_settings *settings,
                                       const struct config_option *option, unsigned instance)
{
    const struct setting *flag = find(settings, option, instance, SIDE_FLAG);
    const struct setting *file = find(settings, option, instance, SIDE_FILE);
    return flag ? flag : file ? file : find(settings, option, instance, SIDE_OTHER);
}

int config_settings_add(struct config_settings *settings, const char *key, const char *value,
                        const char *path, unsigned line, struct error *err)
{
    struct setting setting = {.side = SIDE_OTHER, .line = line};
    char place[CONFIG_PLACE_MAX];
    setting.option = config_option_find("machine", key, &setting.instance);
    if (config_settings_value(settings, setting.option, 0))
        return error_set(err, -EINVAL, "%s:%u: %s is also said at %s: leave one out", path, line,
                         key, config_settings_place(settings, setting.option, 0, place));
    if (!settings->other)
        settings->other = strdup(path);
    if (!settings->other)
        return error_set(err, -ENOMEM, "out of memory");
    if (store(settings, setting, value, err) < 0)
        return error_prefix(err, "%s:%u: %s", path, line, key);
    return 0;
}

const char *config_settings_value(const struct config_settings *settings,
                                  const struct config_option *option, unsigned instance)
{
    const struct setting *setting = effective(settings, option, instance);
    return setting ? setting->value : NULL;
}

const char *config_settings_place(const struct config_settings *settings,
                                  const struct config_option *option, unsigned instance,
                                  char out[CONFIG_PLACE_MAX])
{
    char number[16] = "";
    if (option->instances)
        snprintf(number, sizeof(number), ".%u", instance);
    const struct setting *setting = effective(settings, option, instance);
    if (setting && setting->side == SIDE_FLAG)
        snprintf(out, CONFIG_PLACE_MAX, "--%s%s", option->flag, number);
    else if (setting)
        snprintf(out, CONFIG_PLACE_MAX, "%s:%u: %s%s",
                 setting->side == SIDE_FILE ? settings->file : settings->other, setting->line,
                 option->key, number);
    else
        snprintf(out, CONFIG_PLACE_MAX, "[%s] %s%s", option->section, option->key, number);
    return out;
}
