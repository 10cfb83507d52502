/* What a configuration means to those who carry it out: for the daemon, and for who only tries. */
#ifndef KEMARI_APP_CONFIG_USE_H
#define KEMARI_APP_CONFIG_USE_H

#include "app/config.h"
#include "heartbeat/arbiter.h"
#include "qemu/command.h"
#include "transport/tls.h"

/* The arbiter as configured, without `reachable`. Points into `config`. */
struct arbiter_config config_arbiter(const struct config *config);

/* The credentials of the pair's links; NULL where these don't encrypt. 0, or -errno with what is
 * wrong with them. */
int config_tls_credentials(const struct config *config, struct tls_credentials **out,
                           struct error *err);

/* The QEMU as configured, with all of its disks; nobody's trial. Points into `config`. */
struct qemu_command config_qemu_command(const struct config *config);

#endif
