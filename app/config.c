#include "app/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "app/config_check.h"
#include "app/config_domain.h"
#include "app/config_help.h"

/* The flags that are not options of the table. */
enum command { COMMAND_NONE, COMMAND_HELP, COMMAND_VERSION, COMMAND_MARKDOWN, COMMAND_PRINT };

struct command_line {
    const char *file; /* of --config, borrowed from argv */
    enum command command;
};

static bool take_command(struct command_line *line, const char *word)
{
    static const struct {
        const char *word;
        enum command command;
    } words[] = {
        {"-h", COMMAND_HELP},
        {"--help", COMMAND_HELP},
        {"-V", COMMAND_VERSION},
        {"--version", COMMAND_VERSION},
        {"--help-markdown", COMMAND_MARKDOWN},
        {"--print-config", COMMAND_PRINT},
    };
    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (strcmp(word, words[i].word) == 0) {
            line->command = words[i].command;
            return true;
        }
    return false;
}

static int take_flag(struct command_line *line, struct config_settings *settings, const char *name,
                     const char *value, struct error *err)
{
    if (strcmp(name, "config") != 0)
        return config_settings_read_flag(settings, name, value, err);
    if (!value)
        return error_set(err, -EINVAL, "--config: the value is missing");
    if (line->file)
        return error_set(err, -EINVAL, "--config: given twice");
    line->file = value;
    return 0;
}

/* "--name value" or "--name=value"; *used counts the words taken. */
static int split_flag(struct command_line *line, struct config_settings *settings, char **words,
                      int count, int *used, struct error *err)
{
    const char *word = strcmp(words[0], "-c") == 0 ? "--config" : words[0];
    if (strncmp(word, "--", 2) != 0 || !word[2])
        return error_set(err, -EINVAL, "\"%s\": there is no such argument (try --help)", word);
    const char *equals = strchr(word, '=');
    char *name = equals ? strndup(word + 2, (size_t)(equals - word - 2)) : strdup(word + 2);
    if (!name)
        return error_set(err, -ENOMEM, "out of memory");
    const char *value = equals ? equals + 1 : count > 1 ? words[1] : NULL;
    *used = equals || !value ? 1 : 2;
    const int rc = take_flag(line, settings, name, value, err);
    free(name);
    return rc;
}

static int read_command_line(int argc, char **argv, struct command_line *line,
                             struct config_settings *settings, struct error *err)
{
    for (int i = 1; i < argc;) {
        int used = 1;
        if (!take_command(line, argv[i])) {
            const int rc = split_flag(line, settings, argv + i, argc - i, &used, err);
            if (rc < 0)
                return rc;
        }
        i += used;
    }
    return 0;
}

static int read_all(const struct command_line *line, struct config_settings *settings,
                    struct config *config, struct error *err)
{
    int rc = line->file ? config_settings_read_file(settings, line->file, err) : 0;
    if (rc == 0)
        rc = config_domain_read(settings, err);
    if (rc == 0)
        rc = config_apply(settings, config, err);
    if (rc == 0)
        rc = config_check_files(settings, config, err);
    if (rc < 0)
        config_free(config);
    return rc;
}

int config_read(int argc, char **argv, FILE *out, struct config *config, enum config_action *action,
                struct error *err)
{
    *config = (struct config){0};
    *action = CONFIG_EXIT;
    struct command_line line = {0};
    struct config_settings *settings = config_settings_create();
    if (!settings)
        return error_set(err, -ENOMEM, "out of memory");
    int rc = read_command_line(argc, argv, &line, settings, err);
    if (rc == 0 && line.command == COMMAND_HELP)
        config_print_help(out);
    else if (rc == 0 && line.command == COMMAND_MARKDOWN)
        config_print_markdown(out);
    else if (rc == 0 && line.command == COMMAND_VERSION)
        fprintf(out, "kemarid %s\n", KEMARI_VERSION);
    else if (rc == 0)
        rc = read_all(&line, settings, config, err);
    if (rc == 0 && line.command == COMMAND_PRINT) {
        /* What it says is printed as options. */
        free(config->libvirt_xml);
        config->libvirt_xml = NULL;
        config_print(config, out);
        config_free(config);
    } else if (rc == 0 && line.command == COMMAND_NONE) {
        *action = CONFIG_RUN;
    }
    config_settings_destroy(&settings);
    return rc;
}

int config_examine(const char *path, struct config *config, struct error *files, struct error *err)
{
    *config = (struct config){0};
    *files = (struct error){0};
    struct config_settings *settings = config_settings_create();
    if (!settings)
        return error_set(err, -ENOMEM, "out of memory");
    int rc = config_settings_read_file(settings, path, err);
    if (rc == 0)
        rc = config_domain_read(settings, err);
    if (rc == 0)
        rc = config_apply(settings, config, err);
    if (rc == 0)
        config_check_files(settings, config, files);
    else
        config_free(config);
    config_settings_destroy(&settings);
    return rc;
}

static void free_words(struct config_words *words)
{
    free(words->text);
    free(words->words);
}

static void free_address(struct config_address *address)
{
    free(address->text);
}

void config_free(struct config *config)
{
    if (!config)
        return;
    free(config->name);
    free(config->state_dir);
    free(config->run_dir);
    free(config->control_socket);
    free(config->kernel);
    free(config->initrd);
    free(config->cmdline);
    free_words(&config->qemu);
    free(config->libvirt_xml);
    free(config->qemu_net_device);
    free(config->qemu_disk_device);
    free(config->console_log);
    free(config->tls_cert_file);
    free(config->tls_key_file);
    free(config->tls_ca_file);
    free(config->tls_peer_name);
    free(config->secret_file);
    free(config->arbiter_key_prefix);
    free(config->arbiter_ca_file);
    free(config->arbiter_cert_file);
    free(config->arbiter_key_file);
    free(config->arbiter_user);
    free(config->arbiter_password_file);
    free_words(&config->arbiter_command);
    free_words(&config->arbiter_endpoints);
    free_words(&config->power_off);
    free_words(&config->power_on);
    for (size_t i = 0; i < CONFIG_NETS_MAX; i++)
        free(config->nets[i].tap);
    for (size_t i = 0; i < CONFIG_DISKS_MAX; i++)
        free(config->disks[i].path);
    free_address(&config->metrics);
    free_address(&config->listen);
    free_address(&config->peer);
    for (size_t i = 0; i < CONFIG_HOSTS_MAX; i++)
        free_address(&config->hosts[i]);
    for (size_t i = 0; i < CONFIG_PATHS_MAX; i++) {
        free_address(&config->paths[i].local);
        free_address(&config->paths[i].remote);
    }
    explicit_bzero(config, sizeof(*config));
}
