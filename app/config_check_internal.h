/* Inside of the checks: config_check.c (values, files, everything else), config_check_hosts.c (the
 * hosts that share a guest). */
#ifndef KEMARI_APP_CONFIG_CHECK_INTERNAL_H
#define KEMARI_APP_CONFIG_CHECK_INTERNAL_H

#include "app/config_check.h"

/* What the checks share. */
struct check {
    const struct config_settings *settings;
    struct config *config;
    struct error *err;
};

#define OPTION(member) config_option_at(offsetof(struct config, member))

/* Completes the phrase in `err` with the place of the option. */
int config_check_fail_at(const struct check *check, const struct config_option *option,
                         unsigned instance);

#define FAIL(check, member, instance, code, ...)                                                   \
    (error_set((check)->err, code, __VA_ARGS__),                                                   \
     config_check_fail_at(check, OPTION(member), instance))

/* config_check_hosts.c */
int config_check_pair(const struct check *check);
int config_check_hosts(const struct check *check);
int config_check_heartbeat(const struct check *check);

#endif
