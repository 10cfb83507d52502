/* kemarictl doctor, what it says of the other hosts: addresses, paths, certificates, the arbiter,
 * taps. */
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "disk/image.h"
#include "test/support/doctor_fixture.h"
#include "test/support/fake_http.h"
#include "test/support/kemarictl_words.h"
#include "test/support/runner.h"
#include "test/support/tls_identity.h"
#include "vmm/tap.h"

#define MACHINE "[machine]\nkernel = /bin/sh\nmemory = 64M\n"
#define LINKS   "[replication]\nlisten = tls://127.0.0.1:17490\npeer = tls://127.0.0.2:17490\n"
#define PATH_0  "[heartbeat]\ninterval = 10s\npath.0 = 127.0.0.1:17491,127.0.0.2:17491\n"
#define ARBITER "[arbiter]\ntype = manual\n"

/* A pair of these sections. */
static void write_pair(const char *machine, const char *links, const char *paths,
                       const char *arbiter, const char *tls)
{
    char text[4096];
    snprintf(text, sizeof(text),
             "[vm]\nname = web\nrole = primary\nrun-dir = %s\nstate-dir = %s\n"
             "%s%s%ssecret-file = %s\n%s%s",
             doctor_directory, doctor_state_dir, machine, links, paths, doctor_secret, arbiter,
             tls);
    doctor_write_file(doctor_config, text, 0600);
    doctor_write_file(doctor_secret, "sixteen bytes and more", 0600);
}

/* A socket of that type at 127.0.0.`host`, listening if it can. */
static int occupy(int type, unsigned host, uint16_t port)
{
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons(port),
                                        .sin_addr.s_addr = htonl(0x7f000000 | host)};
    const int one = 1;
    const int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    CU_ASSERT_FATAL(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    CU_ASSERT_EQUAL_FATAL(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    if (type == SOCK_STREAM)
        CU_ASSERT_EQUAL_FATAL(listen(fd, 8), 0);
    return fd;
}

static void a_pair_that_is_not_started_yet(void)
{
    write_pair(MACHINE, LINKS, PATH_0, ARBITER, "");
    doctor_expect_reason("tls", "", "ok");
    doctor_expect_reason("listen", "", "ok");
    doctor_expect_reason("peer", "", "peer-not-listening");
    doctor_expect_reason("path", "path.0", "ok");
    doctor_expect_reason("paths", "", "paths-single");
    doctor_expect_reason("arbiter", "", "ok");
    doctor_expect_reason("daemon", "", "");
}

static void a_peer_that_listens_is_reached(void)
{
    write_pair(MACHINE, LINKS, PATH_0, ARBITER, "");
    int peer = occupy(SOCK_STREAM, 2, 17490);
    doctor_expect_reason("peer", "", "ok");
    fd_close(&peer);
}

static void addresses_that_others_use_are_refused(void)
{
    write_pair(MACHINE, LINKS, PATH_0, ARBITER, "");
    int tcp = occupy(SOCK_STREAM, 1, 17490), udp = occupy(SOCK_DGRAM, 1, 17491);
    doctor_expect_refused("listen", "", "listen-in-use");
    doctor_expect_refused("path", "path.0", "path-in-use");
    fd_close(&tcp);
    fd_close(&udp);
}

static void addresses_of_other_hosts_are_refused(void)
{
    write_pair(MACHINE,
               "[replication]\nlisten = tls://192.0.2.1:17490\npeer = tls://127.0.0.2:17490\n",
               "[heartbeat]\npath.0 = 192.0.2.1:17491,127.0.0.2:17491\n", ARBITER, "");
    doctor_expect_refused("listen", "", "listen-not-here");
    doctor_expect_refused("path", "path.0", "path-refused");
}

static void what_is_not_encrypted_is_warned_of(void)
{
    write_pair(MACHINE,
               "[replication]\nlisten = tcp://127.0.0.1:17490\npeer = tcp://127.0.0.2:17490\n",
               PATH_0, ARBITER, "");
    doctor_expect_reason("tls", "", "not-encrypted");
    doctor_expect_reason("listen", "", "ok");
}

static void rdma_needs_a_device(void)
{
    write_pair(MACHINE,
               "[replication]\nlisten = rdma://192.0.2.1:17490\npeer = rdma://192.0.2.2:17490\n",
               PATH_0, ARBITER, "");
    doctor_expect_refused("listen", "",
                          "rdma-missing"); /* whatever devices there are, not with that */
}

/* A daemon that runs has what it needs. */
static void what_the_daemon_of_the_machine_uses_is_no_problem(void)
{
    char lines[256], sector[4096];
    const struct disk_image_config image = {.path = doctor_disk};
    struct disk_image *user;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/web.sock", doctor_directory);
    snprintf(lines, sizeof(lines), MACHINE "disk.0 = %s\n", doctor_disk);
    memset(sector, 'x', sizeof(sector) - 1);
    sector[sizeof(sector) - 1] = '\0';
    doctor_write_file(doctor_disk, sector, 0600);
    CU_ASSERT_EQUAL(truncate(doctor_disk, 8192), 0);
    write_pair(lines, LINKS, PATH_0, ARBITER, "");
    CU_ASSERT_EQUAL_FATAL(disk_image_open(&image, &user, NULL), 0);
    int tcp = occupy(SOCK_STREAM, 1, 17490), udp = occupy(SOCK_DGRAM, 1, 17491);
    int control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL_FATAL(bind(control, (struct sockaddr *)&address, sizeof(address)), 0);
    CU_ASSERT_EQUAL_FATAL(listen(control, 64), 0);
    doctor_expect_reason("daemon", "", "daemon-runs");
    doctor_expect_reason("disk", "disk.0", "daemon-runs");
    doctor_expect_reason("listen", "", "daemon-runs");
    doctor_expect_reason("path", "path.0", "daemon-runs");
    doctor_expect_reason("memory", "", "");
    disk_image_close(&user);
    fd_close(&tcp);
    fd_close(&udp);
    fd_close(&control);
    unlink(address.sun_path);
}

/* ---- certificates ---- */

static void write_certificates(const char *name)
{
    char tls[512];
    snprintf(tls, sizeof(tls),
             "[tls]\ncert-file = %s/%s.pem\nkey-file = %s/%s.key\nca-file = %s/ca.pem\n",
             doctor_directory, name, doctor_directory, name, doctor_directory);
    write_pair(MACHINE, LINKS, PATH_0, ARBITER, tls);
}

static void remove_certificates(const char *name)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s.pem", doctor_directory, name);
    unlink(path);
    snprintf(path, sizeof(path), "%s/%s.key", doctor_directory, name);
    unlink(path);
}

static void certificates_are_looked_at(void)
{
    char words[128], path[128], *out, *err;
    tls_identity_make(doctor_directory, "brief", TLS_IDENTITY_VALID); /* for another day */
    tls_identity_make(doctor_directory, "old", TLS_IDENTITY_EXPIRED);
    tls_identity_make(doctor_directory, "young", TLS_IDENTITY_FUTURE);
    write_certificates("brief");
    doctor_expect_reason("tls", "", "ok");
    doctor_expect_reason("certificate", "cert-file", "certificate-expiring");
    doctor_expect_reason("certificate", "ca-file", "certificate-expiring");
    write_certificates("old");
    doctor_expect_refused("certificate", "cert-file", "certificate-expired");
    write_certificates("young");
    doctor_expect_refused("certificate", "cert-file", "certificate-not-yet-valid");
    snprintf(words, sizeof(words), "keygen certificates %s good", doctor_directory);
    CU_ASSERT_EQUAL(kemarictl_run_words(words, &out, &err), 0);
    free(out);
    free(err);
    write_certificates("good");
    doctor_expect_reason("certificate", "cert-file", "ok");
    snprintf(path, sizeof(path), "%s/good.pem", doctor_directory);
    doctor_write_file(path, "no certificate", 0600);
    doctor_expect_refused("tls", "", "tls-refused");
    doctor_expect_refused("certificate", "cert-file", "tls-refused");
    static const char *const names[] = {"brief", "old", "young", "good", "ca"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        remove_certificates(names[i]);
}

/* ---- the arbiter ---- */

static long answer(void *context, const char *path, const char *body, char *reply)
{
    const int *status = context;
    (void)path, (void)body;
    return fake_http_reply(reply, *status,
                           "{\"header\":{\"cluster_id\":\"7\",\"revision\":\"9\"}}");
}

static void write_etcd(const char *url)
{
    char text[512];
    snprintf(text, sizeof(text), "[arbiter]\ntype = etcd\nendpoints = %s\n", url);
    write_pair(MACHINE, LINKS, PATH_0, text, "");
}

static void etcd_is_asked_whether_it_answers(void)
{
    int status = 200;
    struct fake_http *server = fake_http_start(answer, &status);
    write_etcd(fake_http_url(server));
    doctor_expect_reason("arbiter", "", "ok");
    status = 503;
    doctor_expect_refused("arbiter", "", "arbiter-unreachable");
    fake_http_stop(&server);
    doctor_expect_refused("arbiter", "", "arbiter-unreachable");
    write_etcd("http://a:1 http://a:2 http://a:3 http://a:4 http://a:5 http://a:6 http://a:7 "
               "http://a:8 http://a:9");
    doctor_expect_refused("arbiter", "", "arbiter-refused");
}

static void other_arbiters_are_not_asked(void)
{
    char ran[128], text[256];
    snprintf(ran, sizeof(ran), "%s/ran", doctor_directory);
    snprintf(text, sizeof(text), "[arbiter]\ntype = command\ncommand = /bin/touch %s\n", ran);
    write_pair(MACHINE, LINKS, PATH_0, text, "");
    doctor_expect_reason("arbiter", "", "arbiter-not-run");
    CU_ASSERT_EQUAL(access(ran, F_OK), -1);
    write_pair(MACHINE, LINKS, PATH_0, "[arbiter]\ntype = none\n", "");
    doctor_expect_reason("arbiter", "", "arbiter-none");
}

/* ---- taps, in a network of a child's own ---- */

/* An order to the kernel about the interface `name`: flags, an IPv4 address, or the index of a
 * port. */
static int order(unsigned long request, const char *name, int value)
{
    struct ifreq ifr = {0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
    if (request == SIOCSIFADDR) {
        const struct sockaddr_in address = {.sin_family = AF_INET,
                                            .sin_addr.s_addr = htonl((uint32_t)value)};
        memcpy(&ifr.ifr_addr, &address, sizeof(address));
    } else if (request == SIOCBRADDIF) {
        ifr.ifr_ifindex = value;
    } else {
        ifr.ifr_flags = (short)value;
    }
    const int rc = ioctl(fd, request, &ifr);
    fd_close(&fd);
    return rc;
}

static void make_interface(const char *name, int flags)
{
    struct ifreq ifr = {.ifr_flags = (short)(flags | IFF_NO_PI)};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
    CU_ASSERT_EQUAL(ioctl(fd, TUNSETIFF, &ifr), 0);
    CU_ASSERT_EQUAL(ioctl(fd, TUNSETPERSIST, 1), 0);
    fd_close(&fd);
}

static void examine_taps(void)
{
    CU_ASSERT_EQUAL(unshare(CLONE_NEWNET | CLONE_NEWNS), 0);
    CU_ASSERT_EQUAL(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    CU_ASSERT_EQUAL(mount("sysfs", "/sys", "sysfs", 0, NULL), 0);
    write_pair(MACHINE "net.0 = tap0\nnet.1 = tun0\n", LINKS,
               PATH_0 "path.1 = 192.0.2.1:17491,192.0.2.2:17491\n", ARBITER, "");
    doctor_expect_refused("tap", "net.0", "tap-missing");
    /* The loopback interface is down. */
    doctor_expect_refused("peer", "", "peer-unreachable");
    doctor_expect_refused("path", "path.0", "path-no-route");
    CU_ASSERT_EQUAL(order(SIOCSIFFLAGS, "lo", IFF_UP), 0);
    doctor_expect_reason("path", "path.0", "ok");
    make_interface("tap0", IFF_TAP);
    make_interface("tun0", IFF_TUN);
    doctor_expect_refused("tap", "net.1", "tap-refused");
    doctor_expect_reason("tap", "net.0", "tap-down");
    CU_ASSERT_EQUAL(order(SIOCSIFFLAGS, "tap0", IFF_UP), 0);
    doctor_expect_reason("tap", "net.0", "tap-no-bridge");
    int user = tap_open("tap0", NULL);
    CU_ASSERT(user >= 0);
    doctor_expect_refused("tap", "net.0", "tap-busy");
    fd_close(&user);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL(ioctl(fd, SIOCBRADDBR, "br0"), 0);
    fd_close(&fd);
    CU_ASSERT_EQUAL(order(SIOCBRADDIF, "br0", (int)if_nametoindex("tap0")), 0);
    doctor_expect_reason("tap", "net.0", "ok");
    CU_ASSERT_EQUAL(order(SIOCSIFFLAGS, "br0", IFF_UP), 0);
    CU_ASSERT_EQUAL(order(SIOCSIFADDR, "br0", (int)0xc0000201), 0);
    doctor_expect_reason("paths", "", "ok");
}

static void taps_and_interfaces_are_tried(void)
{
    doctor_in_child(examine_taps);
}

static const struct test_case cases[] = {
    {"a pair that is not started yet", a_pair_that_is_not_started_yet},
    {"a peer that listens is reached", a_peer_that_listens_is_reached},
    {"addresses that others use are refused", addresses_that_others_use_are_refused},
    {"addresses of other hosts are refused", addresses_of_other_hosts_are_refused},
    {"what is not encrypted is warned of", what_is_not_encrypted_is_warned_of},
    {"RDMA needs a device", rdma_needs_a_device},
    {"what the daemon of the machine uses is no problem",
     what_the_daemon_of_the_machine_uses_is_no_problem},
    {"certificates are looked at", certificates_are_looked_at},
    {"etcd is asked whether it answers", etcd_is_asked_whether_it_answers},
    {"other arbiters are not asked", other_arbiters_are_not_asked},
    {"taps and interfaces are tried", taps_and_interfaces_are_tried},
};

int main(int argc, char **argv)
{
    if (!doctor_begin())
        return 1;
    const int status = test_run(argc, argv, "doctor-pair", cases, ARRAY_SIZE(cases));
    return doctor_end() ? status : 1;
}
