#include "test/support/etcd_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

#define PROGRAM  "/usr/bin/etcd"
#define PATIENCE SEC(30)

struct etcd_server {
    char folder[64];
    char url[64];
    char peer_url[64];
    pid_t pid;
    bool tls;
};

static void require(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "etcd server: %s\n", what);
    abort();
}

/* Free at this moment; both are held until both are known. */
static void choose_ports(struct etcd_server *s)
{
    int fds[2];
    char *urls[2] = {s->url, s->peer_url};
    for (int i = 0; i < 2; i++) {
        struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof(address);
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        require(fds[i] >= 0 && bind(fds[i], (struct sockaddr *)&address, size) == 0 &&
                    getsockname(fds[i], (struct sockaddr *)&address, &size) == 0,
                "no port");
        snprintf(urls[i], sizeof(s->url), "%s://127.0.0.1:%u", s->tls && i == 0 ? "https" : "http",
                 ntohs(address.sin_port));
    }
    close(fds[0]);
    close(fds[1]);
}

static void execute(const struct etcd_server *s)
{
    char cluster[96];
    snprintf(cluster, sizeof(cluster), "default=%s", s->peer_url);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int null = open("/dev/null", O_RDWR);
    dup2(null, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
    require(chdir(s->folder) == 0, "chdir");
    execl(PROGRAM, "etcd", "--data-dir", "data", "--listen-client-urls", s->url,
          "--advertise-client-urls", s->url, "--listen-peer-urls", s->peer_url,
          "--initial-advertise-peer-urls", s->peer_url, "--initial-cluster", cluster,
          "--unsafe-no-fsync", s->tls ? "--client-cert-auth" : (char *)NULL, "--trusted-ca-file",
          "ca.pem", "--cert-file", "host.pem", "--key-file", "host.key", (char *)NULL);
    _exit(127);
}

static void make_certificates(const struct etcd_server *s)
{
    char command[1024];
    snprintf(command, sizeof(command),
             "cd %s && exec 2>/dev/null && "
             "openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 "
             "-subj /CN=authority && "
             "openssl req -newkey rsa:2048 -nodes -keyout host.key -out host.csr -subj /CN=host && "
             "echo subjectAltName=IP:127.0.0.1 >names && "
             "openssl x509 -req -in host.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 "
             "-extfile names -out host.pem",
             s->folder);
    require(system(command) == 0, "no certificates");
}

static struct etcd_server *start(bool tls)
{
    if (access(PROGRAM, X_OK) < 0 || access("/usr/bin/etcdctl", X_OK) < 0)
        return NULL;
    struct etcd_server *s = calloc(1, sizeof(*s));
    require(s != NULL, "memory");
    s->tls = tls;
    snprintf(s->folder, sizeof(s->folder), "/tmp/kemari-etcd-XXXXXX");
    require(mkdtemp(s->folder) != NULL, "no folder");
    if (tls)
        make_certificates(s);
    choose_ports(s);
    s->pid = fork();
    require(s->pid >= 0, "no process");
    if (s->pid == 0)
        execute(s);
    const nsec_t until = clock_now() + PATIENCE;
    char line[128];
    while (!etcd_server_ctl(s, "endpoint health", line, sizeof(line))) {
        require(clock_now() < until && waitpid(s->pid, NULL, WNOHANG) == 0, "does not come up");
        poll(NULL, 0, 50);
    }
    return s;
}

struct etcd_server *etcd_server_start(void)
{
    return start(false);
}

struct etcd_server *etcd_server_start_tls(void)
{
    return start(true);
}

const char *etcd_server_folder(const struct etcd_server *server)
{
    return server->folder;
}

void etcd_server_stop(struct etcd_server **server)
{
    struct etcd_server *s = *server;
    if (!s)
        return;
    kill(s->pid, SIGKILL);
    waitpid(s->pid, NULL, 0);
    char command[96];
    snprintf(command, sizeof(command), "rm -rf %s", s->folder);
    require(system(command) == 0, "can't remove the folder");
    free(s);
    *server = NULL;
}

const char *etcd_server_url(const struct etcd_server *server)
{
    return server->url;
}

void etcd_server_freeze(struct etcd_server *server, bool frozen)
{
    kill(server->pid, frozen ? SIGSTOP : SIGCONT);
}

bool etcd_server_ctl(struct etcd_server *server, const char *words, char *out, size_t size)
{
    char command[512];
    /* Its own time-outs end a login on a busy machine: a password takes time to check. */
    snprintf(command, sizeof(command),
             "cd %s && ETCDCTL_API=3 /usr/bin/etcdctl --dial-timeout=30s --command-timeout=30s "
             "--endpoints=%s %s %s 2>/dev/null",
             server->folder, server->url,
             server->tls ? "--cacert=ca.pem --cert=host.pem --key=host.key" : "", words);
    FILE *pipe = popen(command, "re");
    require(pipe != NULL, "can't run etcdctl");
    out[0] = '\0';
    if (fgets(out, (int)size, pipe))
        out[strcspn(out, "\n")] = '\0';
    while (fgetc(pipe) != EOF)
        ;
    return pclose(pipe) == 0;
}
