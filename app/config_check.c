#include "app/config_check.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "app/config_check_internal.h"
#include "app/config_value.h"
#include "base/fd.h"

#define HUGE_PAGE_SIZE ((uint64_t)2 << 20)

/* Completes the phrase in `err` with the place of the option. */
int config_check_fail_at(const struct check *check, const struct config_option *option,
                         unsigned instance)
{
    char place[CONFIG_PLACE_MAX];
    return error_prefix(check->err, "%s",
                        config_settings_place(check->settings, option, instance, place));
}

static int parse_group(const char *text, gid_t *out, struct error *err)
{
    uint64_t number;
    if (config_parse_uint(text, 0, UINT32_MAX - 1, &number, NULL) == 0) {
        *out = (gid_t)number;
        return 0;
    }
    const struct group *group = getgrnam(text);
    if (!group)
        return error_set(err, -EINVAL, "there is no group \"%s\" on this host", text);
    *out = group->gr_gid;
    return 0;
}

/* FNV-1a of the VM's name; the same on both hosts, so both give a card the same address. Locally
 * administered, unicast. */
static void derive_mac(const char *name, unsigned index, uint8_t mac[6])
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (const char *p = name; *p; p++)
        hash = (hash ^ (uint8_t)*p) * UINT64_C(0x100000001b3);
    mac[0] = 0x02;
    for (size_t i = 1; i < 5; i++)
        mac[i] = (uint8_t)(hash >> (8 * i));
    mac[5] = (uint8_t)index;
}

static int parse_net(const struct check *check, const char *text, unsigned instance,
                     struct config_net *out)
{
    bool has_mac;
    const int rc = config_parse_net(text, out, &has_mac, check->err);
    /* The name is the first option of the table and so already there. */
    if (rc == 0 && !has_mac)
        derive_mac(check->config->name, instance, out->mac);
    return rc;
}

static int parse_value(const struct check *check, const struct config_option *option,
                       unsigned instance, const char *text)
{
    void *member = (char *)check->config + option->offset;
    uint64_t number = 0;
    int rc = 0;
    switch (option->kind) {
    case CONFIG_KIND_STRING:
        *(char **)member = strdup(text);
        return *(char **)member ? 0 : error_set(check->err, -ENOMEM, "out of memory");
    case CONFIG_KIND_UINT:
        rc = config_parse_uint(text, option->min, option->max, &number, check->err);
        *(unsigned *)member = (unsigned)number;
        return rc;
    case CONFIG_KIND_BYTES:
        return config_parse_bytes(text, option->min, option->max, member, check->err);
    case CONFIG_KIND_DURATION:
        return config_parse_duration(text, (nsec_t)option->min, (nsec_t)option->max, member,
                                     check->err);
    case CONFIG_KIND_BOOL:
        return config_parse_bool(text, member, check->err);
    case CONFIG_KIND_ENUM:
        return config_parse_enum(text, option->names, member, check->err);
    case CONFIG_KIND_ADDRESS:
        return config_parse_link(text, (struct config_address *)member + instance, check->err);
    case CONFIG_KIND_SERVICE:
        return config_parse_service(text, member, check->err);
    case CONFIG_KIND_WORDS:
        return config_parse_words(text, member, check->err);
    case CONFIG_KIND_GROUP:
        return parse_group(text, member, check->err);
    case CONFIG_KIND_NET:
        return parse_net(check, text, instance, (struct config_net *)member + instance);
    case CONFIG_KIND_DISK:
        return config_parse_disk(text, (struct config_disk *)member + instance, check->err);
    case CONFIG_KIND_PATH:
        break;
    }
    return config_parse_path(text, (struct config_path *)member + instance, check->err);
}

static int apply_instances(const struct check *check, const struct config_option *option)
{
    unsigned count = 0;
    for (unsigned i = 0; i < option->instances; i++) {
        const char *text = config_settings_value(check->settings, option, i);
        if (!text)
            continue;
        if (i != count) {
            error_set(check->err, -EINVAL, "%s.%u is missing, numbers count from 0 without gaps",
                      option->key, count);
            return config_check_fail_at(check, option, i);
        }
        if (parse_value(check, option, i, text) < 0)
            return config_check_fail_at(check, option, i);
        count++;
        memcpy((char *)check->config + option->count_offset, &count, sizeof(count));
    }
    return 0;
}

static int apply_option(const struct check *check, const struct config_option *option)
{
    if (option->instances)
        return apply_instances(check, option);
    const char *text = config_settings_value(check->settings, option, 0);
    if (!text && option->required) {
        error_set(check->err, -EINVAL, "this option is needed");
        return config_check_fail_at(check, option, 0);
    }
    if (!text)
        text = option->fallback;
    if (text && parse_value(check, option, 0, text) < 0)
        return config_check_fail_at(check, option, 0);
    return 0;
}

static int check_name(const struct check *check)
{
    static const char legal[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    const char *name = check->config->name;
    const size_t length = strlen(name);
    if (length < CONFIG_NAME_MAX && strspn(name, legal) == length && *name != '-')
        return 0;
    return FAIL(check, name, 0, -EINVAL,
                "\"%.64s\" is not 1 to %d letters, digits, - or _, beginning with no -", name,
                CONFIG_NAME_MAX - 1);
}

/* Defaults that depend on other options. */
static int derive_paths(const struct check *check)
{
    struct config *config = check->config;
    if (!config->state_dir && asprintf(&config->state_dir, "/var/lib/kemari/%s", config->name) < 0)
        return error_set(check->err, -ENOMEM, "out of memory");
    if (!config->control_socket &&
        asprintf(&config->control_socket, "%s/%s.sock", config->run_dir, config->name) < 0)
        return error_set(check->err, -ENOMEM, "out of memory");
    const size_t limit = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;
    if (strlen(config->control_socket) > limit)
        return FAIL(check, control_socket, 0, -EINVAL,
                    "%s is longer than the %zu bytes of a Unix socket's name",
                    config->control_socket, limit);
    return 0;
}

static int check_devices(const struct check *check)
{
    const struct config *config = check->config;
    for (unsigned i = 0; i < config->net_count; i++)
        for (unsigned j = 0; j < i; j++) {
            if (strcmp(config->nets[i].tap, config->nets[j].tap) == 0)
                return FAIL(check, nets, i, -EINVAL, "%s is already used by net.%u",
                            config->nets[i].tap, j);
            if (memcmp(config->nets[i].mac, config->nets[j].mac, 6) == 0)
                return FAIL(check, nets, i, -EINVAL, "the MAC address is that of net.%u", j);
        }
    for (unsigned i = 0; i < config->disk_count; i++)
        for (unsigned j = 0; j < i; j++)
            if (strcmp(config->disks[i].path, config->disks[j].path) == 0)
                return FAIL(check, disks, i, -EINVAL, "%s is already used by disk.%u",
                            config->disks[i].path, j);
    return 0;
}

/* All that certificates need, or nothing of it. */
static int check_tls(const struct check *check)
{
    struct config *config = check->config;
    const struct {
        const char *text;
        const struct config_option *option;
    } files[] = {{config->tls_cert_file, OPTION(tls_cert_file)},
                 {config->tls_key_file, OPTION(tls_key_file)},
                 {config->tls_ca_file, OPTION(tls_ca_file)}};
    const struct config_option *given = config->tls_peer_name ? OPTION(tls_peer_name) : NULL;
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        given = files[i].text ? files[i].option : given;
    if (!given)
        return 0;
    if (!config->peer.encrypted) {
        error_set(check->err, -EINVAL,
                  "this option needs listen and peer with tls:// or rdma+tls://");
        return config_check_fail_at(check, given, 0);
    }
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        if (!files[i].text) {
            error_set(check->err, -EINVAL, "this option is needed with %s", given->key);
            return config_check_fail_at(check, files[i].option, 0);
        }
    if (config->tls_peer_name)
        return 0;
    char host[NI_MAXHOST];
    if (getnameinfo((const struct sockaddr *)&config->peer.address, config->peer.length, host,
                    sizeof(host), NULL, 0, NI_NUMERICHOST) != 0)
        return error_set(check->err, -EINVAL, "peer has no numeric address");
    config->tls_peer_name = strdup(host);
    return config->tls_peer_name ? 0 : error_set(check->err, -ENOMEM, "out of memory");
}

static bool is_endpoint(const char *url)
{
    const char *host = strncmp(url, "http://", 7) == 0    ? url + 7
                       : strncmp(url, "https://", 8) == 0 ? url + 8
                                                          : "";
    return *host && !strpbrk(host, "/?#@");
}

static int check_etcd(const struct check *check)
{
    const struct config *config = check->config;
    if (!config->arbiter_endpoints.text)
        return FAIL(check, arbiter_endpoints, 0, -EINVAL,
                    "this option is needed with arbiter type etcd");
    for (size_t i = 0; config->arbiter_endpoints.list[i]; i++)
        if (!is_endpoint(config->arbiter_endpoints.list[i]))
            return FAIL(check, arbiter_endpoints, 0, -EINVAL,
                        "\"%.100s\" is not http://HOST:PORT or https://HOST:PORT",
                        config->arbiter_endpoints.list[i]);
    if (config->arbiter_cert_file && !config->arbiter_key_file)
        return FAIL(check, arbiter_key_file, 0, -EINVAL, "this option is needed with cert-file");
    if (config->arbiter_key_file && !config->arbiter_cert_file)
        return FAIL(check, arbiter_cert_file, 0, -EINVAL, "this option is needed with key-file");
    if (config->arbiter_user && !config->arbiter_password_file)
        return FAIL(check, arbiter_password_file, 0, -EINVAL, "this option is needed with user");
    if (config->arbiter_password_file && !config->arbiter_user)
        return FAIL(check, arbiter_user, 0, -EINVAL, "this option is needed with password-file");
    return 0;
}

static int check_arbiter(const struct check *check)
{
    const struct config *config = check->config;
    if (config->arbiter == CONFIG_ARBITER_ETCD)
        return check_etcd(check);
    if (config->arbiter != CONFIG_ARBITER_COMMAND)
        return 0;
    const char *program = config->arbiter_command.list[0];
    if (!program)
        return FAIL(check, arbiter_command, 0, -EINVAL,
                    "this option is needed with arbiter type command");
    if (*program != '/')
        return FAIL(check, arbiter_command, 0, -EINVAL, "%.100s is not the whole path of a program",
                    program);
    return 0;
}

static int check_drill(const struct check *check)
{
    const char *off = check->config->power_off.list[0], *on = check->config->power_on.list[0];
    if (off && *off != '/')
        return FAIL(check, power_off, 0, -EINVAL, "%.100s is not the whole path of a program", off);
    if (on && *on != '/')
        return FAIL(check, power_on, 0, -EINVAL, "%.100s is not the whole path of a program", on);
    return 0;
}

/* DESIGN §5: holding can't call back a write that a host has let out before it was given up. Only
 * who makes sure that this host does nothing any more, a fence agent or an operator, can say that
 * another one may use the disk; a grant alone doesn't. */
static int check_fencing(const struct check *check)
{
    const struct config *config = check->config;
    if (!config->listen.text || config->accept_unfenced ||
        config->arbiter == CONFIG_ARBITER_COMMAND || config->arbiter == CONFIG_ARBITER_MANUAL)
        return 0;
    for (unsigned i = 0; i < config->disk_count; i++)
        if (config->disks[i].shared)
            return FAIL(check, disks, i, -EINVAL,
                        "a shared disk needs an arbiter that fences the other host, that is "
                        "command or manual, else a write left behind by a host that was given up "
                        "may damage it; for a drill: --i-accept-unfenced-shared-disk yes");
    return 0;
}

static int check_machine(const struct check *check)
{
    const struct config *config = check->config;
    if (config->machine == CONFIG_MACHINE_KVM && config->libvirt_xml)
        return FAIL(check, libvirt_xml, 0, -EINVAL, "only type qemu has use for this");
    if (config->machine == CONFIG_MACHINE_KVM && !config->kernel)
        return FAIL(check, kernel, 0, -EINVAL, "this option is needed");
    if (config->machine == CONFIG_MACHINE_KVM && config->qemu.text)
        return FAIL(check, qemu, 0, -EINVAL, "only type qemu has use for this");
    if (config->machine == CONFIG_MACHINE_QEMU && !config->qemu.text)
        return FAIL(check, qemu, 0, -EINVAL, "this option is needed with type qemu");
    if (config->machine == CONFIG_MACHINE_KVM && config->qemu_dirty_log != PROCESS_LOG_AUTO)
        return FAIL(check, qemu_dirty_log, 0, -EINVAL, "only type qemu has use for this");
    if (config->qemu_dirty_log == PROCESS_LOG_SOFTDIRTY && config->huge_pages)
        return FAIL(check, qemu_dirty_log, 0, -EINVAL,
                    "softdirty can't be had with huge-pages, which have no soft-dirty bits");
    if (config->machine == CONFIG_MACHINE_QEMU && !config->kernel &&
        (config->initrd || config->cmdline))
        return FAIL(check, kernel, 0, -EINVAL, "this option is needed with initrd or cmdline");
    return 0;
}

static int check_relations(const struct check *check)
{
    const struct config *config = check->config;
    if (config->memory % HUGE_PAGE_SIZE)
        return FAIL(check, memory, 0, -EINVAL, "the size is not a multiple of 2M");
    if (config->dirty_budget > config->staging_cap)
        return FAIL(check, dirty_budget, 0, -EINVAL, "the size is larger than staging-cap");
    int rc = check_machine(check);
    if (rc == 0)
        rc = config_check_pair(check);
    if (rc == 0)
        rc = config_check_hosts(check);
    if (rc == 0)
        rc = check_tls(check);
    if (rc == 0)
        rc = check_devices(check);
    if (rc == 0)
        rc = config_check_heartbeat(check);
    if (rc == 0)
        rc = check_arbiter(check);
    if (rc == 0)
        rc = check_drill(check);
    return rc < 0 ? rc : check_fencing(check);
}

int config_apply(const struct config_settings *settings, struct config *config, struct error *err)
{
    struct error local = {0};
    const struct check check = {settings, config, err ? err : &local};
    config->control_group = (gid_t)-1;
    for (size_t i = 0; i < config_option_count; i++) {
        int rc = apply_option(&check, &config_options[i]);
        /* At once: later options are derived from it. */
        if (rc == 0 && config_options[i].offset == offsetof(struct config, name))
            rc = check_name(&check);
        if (rc < 0)
            return rc;
    }
    const int rc = derive_paths(&check);
    return rc < 0 ? rc : check_relations(&check);
}

/* A regular file (or, if allowed, a block device) that we may open like that. */
static int check_file(const struct check *check, const struct config_option *option,
                      unsigned instance, const char *path, int flags, bool block_device)
{
    struct stat st;
    int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK);
    int rc = 0;
    if (fd < 0 || fstat(fd, &st) < 0)
        rc = error_set(check->err, -errno, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode) && !(block_device && S_ISBLK(st.st_mode)))
        rc = error_set(check->err, -EINVAL, "%s: not a regular file%s", path,
                       block_device ? " or block device" : "");
    else if (S_ISREG(st.st_mode) && st.st_size == 0)
        rc = error_set(check->err, -EINVAL, "%s: the file is empty", path);
    fd_close(&fd);
    return rc < 0 ? config_check_fail_at(check, option, instance) : 0;
}

/* Somewhere to create the file. */
static int check_console_log(const struct check *check)
{
    const char *path = check->config->console_log;
    if (!path || strcmp(path, "stdout") == 0)
        return 0;
    char *copy = strdup(path);
    if (!copy)
        return error_set(check->err, -ENOMEM, "out of memory");
    const char *directory = dirname(copy);
    int rc = 0;
    if (access(directory, W_OK | X_OK) < 0)
        rc = FAIL(check, console_log, 0, -errno, "directory %s: %s", directory, strerror(errno));
    free(copy);
    return rc;
}

/* What nobody else may know: `min` to `max` bytes, a final newline not counted. */
struct secret_file {
    const char *path;
    void *bytes;
    size_t min, max;
    size_t size; /* as read */
};

static int read_secret(const struct check *check, int fd, struct secret_file *secret)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return error_set(check->err, -EINVAL, "%s: not a regular file", secret->path);
    if (st.st_mode & 077)
        return error_set(check->err, -EPERM,
                         "%s: mode %04o lets others read or change it, set it to 0600",
                         secret->path, st.st_mode & 07777);
    if (st.st_uid != 0 && st.st_uid != geteuid())
        return error_set(check->err, -EPERM, "%s: it belongs to user %u, not to root or us",
                         secret->path, st.st_uid);
    if ((uint64_t)st.st_size > secret->max)
        return error_set(check->err, -EINVAL, "%s: longer than %zu bytes", secret->path,
                         secret->max);
    const size_t size = (size_t)st.st_size;
    const int rc = fd_read_all(fd, secret->bytes, size);
    if (rc < 0)
        return error_set(check->err, rc, "%s: %s", secret->path, strerror(-rc));
    secret->size = size && ((char *)secret->bytes)[size - 1] == '\n' ? size - 1 : size;
    if (secret->size < secret->min)
        return error_set(check->err, -EINVAL, "%s: shorter than %zu bytes", secret->path,
                         secret->min);
    return 0;
}

static int check_secret(const struct check *check, const struct config_option *option,
                        struct secret_file *secret)
{
    if (!secret->path)
        return 0;
    int fd = open(secret->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int rc = fd < 0 ? error_set(check->err, -errno, "%s: %s", secret->path, strerror(errno))
                    : read_secret(check, fd, secret);
    fd_close(&fd);
    return rc < 0 ? config_check_fail_at(check, option, 0) : 0;
}

static int check_secrets(const struct check *check)
{
    struct config *config = check->config;
    struct secret_file secret = {.path = config->secret_file,
                                 .bytes = config->secret,
                                 .min = CONFIG_SECRET_MIN,
                                 .max = CONFIG_SECRET_MAX};
    int rc = check_secret(check, OPTION(secret_file), &secret);
    if (rc < 0)
        return rc;
    config->secret_size = secret.size;
    struct secret_file password = {.path = config->arbiter_password_file,
                                   .bytes = config->arbiter_password,
                                   .min = 1,
                                   .max = CONFIG_PASSWORD_MAX - 1};
    rc = check_secret(check, OPTION(arbiter_password_file), &password);
    config->arbiter_password[password.size] = '\0';
    return rc;
}

/* Files of the pair's TLS and of the arbiter; those of the arbiter's TLS are read when it is used.
 */
static int check_own_files(const struct check *check)
{
    const struct config *config = check->config;
    const struct {
        const char *path;
        const struct config_option *option;
    } files[] = {{config->tls_cert_file, OPTION(tls_cert_file)},
                 {config->tls_key_file, OPTION(tls_key_file)},
                 {config->tls_ca_file, OPTION(tls_ca_file)},
                 {config->arbiter_ca_file, OPTION(arbiter_ca_file)},
                 {config->arbiter_cert_file, OPTION(arbiter_cert_file)},
                 {config->arbiter_key_file, OPTION(arbiter_key_file)}};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(files); i++)
        if (files[i].path)
            rc = check_file(check, files[i].option, 0, files[i].path, O_RDONLY, false);
    const char *program = config->arbiter_command.list[0];
    if (rc == 0 && program && access(program, X_OK) < 0)
        rc = FAIL(check, arbiter_command, 0, -errno, "%s: %s", program, strerror(errno));
    return rc;
}

int config_check_files(const struct config_settings *settings, struct config *config,
                       struct error *err)
{
    struct error local = {0};
    const struct check check = {settings, config, err ? err : &local};
    int rc = 0;
    if (config->kernel)
        rc = check_file(&check, OPTION(kernel), 0, config->kernel, O_RDONLY, false);
    if (rc == 0 && config->initrd)
        rc = check_file(&check, OPTION(initrd), 0, config->initrd, O_RDONLY, false);
    for (unsigned i = 0; rc == 0 && i < config->disk_count; i++)
        rc = check_file(&check, OPTION(disks), i, config->disks[i].path,
                        config->disks[i].read_only ? O_RDONLY : O_RDWR, true);
    if (rc == 0)
        rc = check_console_log(&check);
    if (rc == 0)
        rc = check_own_files(&check);
    return rc == 0 ? check_secrets(&check) : rc;
}
