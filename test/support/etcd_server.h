/* A real etcd on loopback, in a folder of its own, for one test program. */
#ifndef KEMARI_TEST_SUPPORT_ETCD_SERVER_H
#define KEMARI_TEST_SUPPORT_ETCD_SERVER_H

#include "base/types.h"

struct etcd_server;

/* NULL when there is no etcd on this machine; aborts when it does not come up. */
struct etcd_server *etcd_server_start(void);
/* Serves https only, and asks clients for a certificate: a fresh authority made "ca.pem",
 * "host.pem" and "host.key", good for either end, in etcd_server_folder(). Needs openssl(1). */
struct etcd_server *etcd_server_start_tls(void);
const char *etcd_server_folder(const struct etcd_server *server);
void etcd_server_stop(struct etcd_server **server);

const char *etcd_server_url(const struct etcd_server *server);

/* Stops its processes, or lets them go on. */
void etcd_server_freeze(struct etcd_server *server, bool frozen);

/* Runs etcdctl with these words (a shell's line); its first line of output into `out`. False when
 * it failed. */
bool etcd_server_ctl(struct etcd_server *server, const char *words, char *out, size_t size);

#endif
