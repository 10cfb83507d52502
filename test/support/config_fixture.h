/* Configurations for tests, in a directory of the test's own. */
#ifndef KEMARI_TEST_SUPPORT_CONFIG_FIXTURE_H
#define KEMARI_TEST_SUPPORT_CONFIG_FIXTURE_H

#include <stdio.h>
#include <sys/types.h>

#include "app/config.h"

/* Lines of [replication], which a file of config_fixture_write_ini() ends in, and what follows. */
#define TLS_PAIR    "listen = 10.0.0.1:7000\npeer = tls://10.0.0.2:7000\n"
#define WITH_SECRET "[heartbeat]\nsecret-file = secret\npath.0 = 10.0.0.1:1,10.0.0.2:1\n"
#define PAIR        "listen = tcp://10.0.0.1:7000\npeer = tcp://10.0.0.2:7000\n"
#define THIRD       "host.0 = tcp://10.0.0.3:7000\n"
#define THIRD_PATH  "path.1 = 10.0.0.1:2,10.0.0.3:1,host=0\n"
#define ETCD        "[arbiter]\ntype = etcd\nendpoints = http://10.0.0.9:2379\n"

/* Makes the directory, with the files that configurations name in it, and goes there. */
void config_fixture_prepare(void);
void config_fixture_clean_up(void);

void config_fixture_write(const char *name, const char *text, mode_t mode);
/* "ini": a file that is complete for a primary without a secondary, followed by `more`. */
void config_fixture_write_ini(const char *more);

/* Runs config_read() on "kemarid WORDS...", words separated by blanks. */
int config_fixture_read(const char *words, FILE *out, struct config *config,
                        enum config_action *action, struct error *err);

#endif
