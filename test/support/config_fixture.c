#include "test/support/config_fixture.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

#define ARGS_MAX 24

static char directory[64];

void config_fixture_write(const char *name, const char *text, mode_t mode)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || fd_write_all(fd, text, strlen(text)) < 0 || fchmod(fd, mode) < 0)
        abort(); /* also runs before there is a test to fail */
    fd_close(&fd);
}

void config_fixture_prepare(void)
{
    snprintf(directory, sizeof(directory), "/tmp/kemari-config-XXXXXX");
    if (!mkdtemp(directory) || chdir(directory) < 0)
        abort();
    config_fixture_write("kernel", "k", 0600);
    config_fixture_write("domain.xml",
                         "<domain type='qemu'><memory unit='MiB'>64</memory><vcpu>3</vcpu>"
                         "<os><type machine='q35'>hvm</type></os></domain>",
                         0600);
    config_fixture_write("initrd", "i", 0600);
    config_fixture_write("empty", "", 0600);
    config_fixture_write("disk", "d", 0600);
    config_fixture_write("disk2", "d", 0600);
    config_fixture_write("secret", "0123456789abcdef\n", 0600);
    config_fixture_write("open-secret", "0123456789abcdef\n", 0644);
    config_fixture_write("short-secret", "0123456789abcde\n", 0600);
    mkdir("folder", 0700);
}

void config_fixture_clean_up(void)
{
    static const char *const names[] = {"kernel",       "domain.xml", "initrd", "empty",
                                        "disk",         "disk2",      "secret", "open-secret",
                                        "short-secret", "ini"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        unlink(names[i]);
    rmdir("folder");
    if (chdir("/") == 0)
        rmdir(directory);
}

int config_fixture_read(const char *words, FILE *out, struct config *config,
                        enum config_action *action, struct error *err)
{
    char copy[4096];
    snprintf(copy, sizeof(copy), "%s", words);
    char *argv[ARGS_MAX] = {(char *)"kemarid"};
    int argc = 1;
    char *rest = copy;
    for (char *word; (word = strsep(&rest, " ")) != NULL && argc < ARGS_MAX;)
        if (*word)
            argv[argc++] = word;
    return config_read(argc, argv, out, config, action, err);
}

void config_fixture_write_ini(const char *more)
{
    char text[8192];
    snprintf(text, sizeof(text),
             "[vm]\nname = web\nrole = primary\n"
             "[machine]\nmemory = 64M\nkernel = kernel\n"
             "[replication]\npeer-wait = 60s\n%s",
             more);
    config_fixture_write("ini", text, 0600);
}
