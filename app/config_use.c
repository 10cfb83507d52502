#include "app/config_use.h"

#include <string.h>

struct arbiter_config config_arbiter(const struct config *config)
{
    static const char *const kinds[] = {
        [CONFIG_ARBITER_NONE] = "none",
        [CONFIG_ARBITER_MANUAL] = "manual",
        [CONFIG_ARBITER_COMMAND] = "command",
        [CONFIG_ARBITER_ETCD] = "etcd",
    };
    return (struct arbiter_config){
        .kind = kinds[config->arbiter],
        .command = (const char *const *)config->arbiter_command.list,
        .etcd = {.endpoints = (const char *const *)config->arbiter_endpoints.list,
                 .key_prefix = config->arbiter_key_prefix,
                 .ca_file = config->arbiter_ca_file,
                 .cert_file = config->arbiter_cert_file,
                 .key_file = config->arbiter_key_file,
                 .user = config->arbiter_user,
                 .password = config->arbiter_user ? config->arbiter_password : NULL},
        .attempt_timeout = config->arbiter_attempt_timeout,
        .probe_interval = config->arbiter_probe_interval,
        .vm = config->name,
    };
}

int config_tls_credentials(const struct config *config, struct tls_credentials **out,
                           struct error *err)
{
    *out = NULL;
    if (!config->listen.encrypted)
        return 0;
    uint8_t key[KEY_SIZE];
    int rc = key_derive(config->secret, config->secret_size, KEY_LABEL_TLS, key, err);
    if (rc < 0)
        return rc;
    const struct tls_config tls = {
        .key = config->tls_cert_file ? NULL : key,
        .cert_file = config->tls_cert_file,
        .key_file = config->tls_key_file,
        .ca_file = config->tls_ca_file,
        .peer_name = config->tls_peer_name,
        .kernel = config->tls_kernel,
    };
    rc = tls_credentials_create(&tls, out, err);
    explicit_bzero(key, sizeof(key));
    return rc;
}

struct qemu_command config_qemu_command(const struct config *config)
{
    struct qemu_command command = {.words = (const char *const *)config->qemu.list,
                                   .memory = config->memory,
                                   .vcpus = config->vcpus,
                                   .kernel = config->kernel,
                                   .initrd = config->initrd,
                                   .command_line = config->cmdline,
                                   .net_device = config->qemu_net_device,
                                   .net_count = config->net_count,
                                   .disk_device = config->qemu_disk_device,
                                   .disk_count = config->disk_count};
    for (unsigned i = 0; i < config->net_count; i++)
        memcpy(command.macs[i], config->nets[i].mac, sizeof(config->nets[i].mac));
    for (unsigned i = 0; i < config->disk_count; i++)
        command.disks_read_only[i] = config->disks[i].read_only;
    return command;
}
