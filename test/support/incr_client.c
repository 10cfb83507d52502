/* incr-client: one TCP connection to redis that sends INCR without pause, and judges the replies.
 *
 * It stands outside the protected machine, as a customer would, and looks for everything a failover
 * must never show (DESIGN P1-P3): the connection reset or closed; a counter that goes back or
 * repeats (an acknowledged increment was lost); a counter that jumps (an increment happened twice).
 * Silence is no offence: TCP keeps trying, and so does the client for --silence seconds.
 *
 * INCR is not idempotent and nobody else uses the key, so each reply must be exactly its
 * predecessor plus one. At the end a GET must agree with the last reply.
 *
 * Depends on nothing but the C library, so that it can be used as a tool by itself. Time is
 * CLOCK_MONOTONIC, comparable with that of other processes of the same host. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S      INT64_C(1000000000)
#define NS_PER_MS     INT64_C(1000000)
#define DEPTH_MAX     1024
#define KEY_MAX       64
#define FLUSH_EVERY   (100 * NS_PER_MS) /* so that a watcher of the log sees progress */
#define CONNECT_RETRY (100 * NS_PER_MS)

enum exit_status {
    EXIT_GOOD = 0,
    EXIT_VIOLATION = 1,
    EXIT_USAGE = 2,
    EXIT_NO_CONNECTION = 3,
};

static const char usage_text[] =
    "usage: incr-client [option]... ADDRESS PORT\n"
    "\n"
    "Sends INCR to a redis over one TCP connection until --duration is over, SIGTERM or SIGINT\n"
    "comes, or the connection fails; then prints one line of JSON.\n"
    "\n"
    "  --duration SEC  stop after so long (default: only by a signal)\n"
    "  --depth N       requests in flight (default 1)\n"
    "  --key NAME      the counter (default kemari-counter); nobody else may use it\n"
    "  --connect SEC   keep trying to connect for so long (default 10)\n"
    "  --silence SEC   give up when no reply comes for so long (default 60)\n"
    "  --kill PID      send SIGKILL to PID in mid-stream, right after a request went out ...\n"
    "  --kill-after SEC  ... this long after the connection was made (default 1)\n"
    "  --log FILE      write a line \"MONOTONIC-NANOSECONDS VALUE\" per reply\n"
    "\n"
    "Exit status: 0 nothing was lost, 1 a promise was broken (the JSON says which), 2 usage,\n"
    "3 no connection came about.\n";

struct options {
    const char *address;
    uint16_t port;
    int64_t duration_ns; /* 0: for ever */
    int64_t connect_ns;
    int64_t silence_ns;
    unsigned depth;
    const char *key;
    pid_t victim; /* 0: nobody */
    int64_t kill_after_ns;
    FILE *log;
};

struct client {
    struct options options;
    int fd;
    int signals;

    char request[128]; /* one INCR, as it goes over the wire */
    size_t request_size;
    size_t unsent; /* bytes of queued requests that the socket did not take yet */

    char input[4096]; /* the beginning of replies that are not complete */
    size_t input_size;

    int64_t sent_at[DEPTH_MAX]; /* ring, by number of the request */
    uint64_t sent;
    uint64_t acknowledged;
    int64_t first;
    int64_t last;

    uint64_t backward; /* replies not above their predecessor: acknowledged increments lost */
    uint64_t lost;     /* by how much they fell short */
    uint64_t skipped;  /* increments that nobody asked for */
    uint64_t errors;   /* replies that are no number */
    bool reset, closed, silent;
    int connection_errno;

    int64_t began, last_reply, flushed;
    int64_t killed_at;             /* 0: not (yet) */
    int64_t first_after_kill;      /* time of the first reply to a request sent after it */
    uint64_t acknowledged_at_kill; /* replies until then */
    uint64_t sent_at_kill;
    int64_t gap_ns, gap_begin, gap_end; /* the longest time between two replies */
    uint32_t *round_trips_us;
    size_t round_trips, round_trips_room;

    bool final_checked, final_right;
    int64_t final_value;
};

static int64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static void record_round_trip(struct client *client, int64_t duration_ns)
{
    if (client->round_trips == client->round_trips_room) {
        size_t room = client->round_trips_room ? 2 * client->round_trips_room : 65536;
        uint32_t *grown = realloc(client->round_trips_us, room * sizeof(*grown));
        if (!grown) {
            return; /* the distribution misses some; the judgement does not */
        }
        client->round_trips_us = grown;
        client->round_trips_room = room;
    }
    client->round_trips_us[client->round_trips++] = (uint32_t)(duration_ns / 1000);
}

/* Judges the reply to the oldest request in flight. */
static void take_value(struct client *client, int64_t value, int64_t now)
{
    if (client->acknowledged == 0) {
        client->first = value;
    } else {
        int64_t expected = client->last + 1;
        if (value < expected) {
            client->backward++;
            client->lost += (uint64_t)(expected - value);
        } else if (value > expected) {
            client->skipped += (uint64_t)(value - expected);
        }
        int64_t gap = now - client->last_reply;
        if (gap > client->gap_ns) {
            client->gap_ns = gap;
            client->gap_begin = client->last_reply;
            client->gap_end = now;
        }
    }
    if (client->killed_at && !client->first_after_kill &&
        client->acknowledged >= client->sent_at_kill) {
        client->first_after_kill = now;
    }
    record_round_trip(client, now - client->sent_at[client->acknowledged % DEPTH_MAX]);
    client->acknowledged++;
    client->last = value;
    client->last_reply = now;
    if (client->options.log) {
        fprintf(client->options.log, "%" PRId64 " %" PRId64 "\n", now, value);
        if (now - client->flushed > FLUSH_EVERY) {
            fflush(client->options.log);
            client->flushed = now;
        }
    }
}

static void connection_failed(struct client *client, int error)
{
    client->reset = error != 0;
    client->closed = error == 0;
    client->connection_errno = error;
}

static bool connection_lives(const struct client *client)
{
    return !client->reset && !client->closed && !client->silent;
}

/* Sends what is due; the socket may take less than everything. */
static void send_requests(struct client *client)
{
    while (client->unsent > 0) {
        /* Requests are all the same: the unsent rest begins inside one of them. */
        size_t offset =
            (client->request_size - client->unsent % client->request_size) % client->request_size;
        ssize_t n = send(client->fd, client->request + offset, client->request_size - offset,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0) {
            if (errno != EAGAIN && errno != EINTR) {
                connection_failed(client, errno);
            }
            return;
        }
        client->unsent -= (size_t)n;
    }
}

static void fill_pipeline(struct client *client)
{
    int64_t now = now_ns();
    while (client->sent - client->acknowledged < client->options.depth) {
        client->sent_at[client->sent++ % DEPTH_MAX] = now;
        client->unsent += client->request_size;
    }
    send_requests(client);
}

/* The failure of the drill. A request is on its way, and its reply perhaps too. */
static void kill_victim(struct client *client)
{
    const struct options *options = &client->options;
    if (!options->victim || client->killed_at || client->acknowledged == 0 ||
        now_ns() - client->began < options->kill_after_ns) {
        return;
    }
    client->killed_at = now_ns();
    client->acknowledged_at_kill = client->acknowledged;
    client->sent_at_kill = client->sent;
    if (kill(options->victim, SIGKILL)) {
        fprintf(stderr, "incr-client: cannot kill %d: %s\n", (int)options->victim, strerror(errno));
        client->errors++;
    }
}

/* Reads what has come and judges every complete line. */
static void receive_replies(struct client *client)
{
    ssize_t n = recv(client->fd, client->input + client->input_size,
                     sizeof(client->input) - client->input_size, MSG_DONTWAIT);
    if (n <= 0) {
        if (n == 0) {
            connection_failed(client, 0);
        } else if (errno != EAGAIN && errno != EINTR) {
            connection_failed(client, errno);
        }
        return;
    }
    int64_t now = now_ns();
    client->input_size += (size_t)n;
    char *line = client->input;
    char *limit = client->input + client->input_size;
    char *end;
    while ((end = memchr(line, '\n', (size_t)(limit - line)))) {
        *end = '\0';
        if (line[0] == ':' && client->acknowledged < client->sent) {
            take_value(client, strtoll(line + 1, NULL, 10), now);
        } else {
            client->errors++;
            fprintf(stderr, "incr-client: unexpected reply: %.100s\n", line);
        }
        line = end + 1;
    }
    client->input_size = (size_t)(limit - line);
    memmove(client->input, line, client->input_size);
    if (client->input_size == sizeof(client->input)) {
        client->errors++;
        client->input_size = 0;
    }
}

/* Waits until the socket is ready, a signal comes (true) or the time is over. */
static bool wait_for_socket(struct client *client, int64_t until)
{
    struct pollfd fds[] = {
        {.fd = client->fd, .events = (short)(client->unsent ? POLLIN | POLLOUT : POLLIN)},
        {.fd = client->signals, .events = POLLIN},
    };
    int64_t left = until - now_ns();
    struct timespec timeout = {.tv_sec = left / NS_PER_S, .tv_nsec = left % NS_PER_S};
    if (left < 0) {
        timeout = (struct timespec){0};
    }
    int ready = ppoll(fds, 2, &timeout, NULL);
    if (ready > 0 && fds[0].revents & POLLOUT) {
        send_requests(client);
    }
    if (ready > 0 && fds[0].revents & (POLLIN | POLLERR | POLLHUP)) {
        receive_replies(client);
    }
    return ready > 0 && fds[1].revents;
}

/* The main loop, then the replies that are still due. */
static void run(struct client *client)
{
    const struct options *options = &client->options;
    int64_t end = options->duration_ns ? client->began + options->duration_ns : INT64_MAX;
    bool stop = false;
    client->last_reply = client->began;
    while (connection_lives(client) && client->errors == 0) {
        int64_t now = now_ns();
        stop = stop || now >= end;
        if (stop && client->sent == client->acknowledged) {
            return;
        }
        if (!stop) {
            fill_pipeline(client);
            kill_victim(client);
        }
        int64_t patience = client->last_reply + options->silence_ns;
        if (now >= patience) {
            client->silent = true;
            return;
        }
        if (wait_for_socket(client, !stop && end < patience ? end : patience)) {
            stop = true;
        }
    }
}

/* Asks for the counter once more: it must be what the last reply said. */
static void check_final(struct client *client)
{
    char request[sizeof(client->request)];
    int size = snprintf(request, sizeof(request), "*2\r\n$3\r\nGET\r\n$%zu\r\n%s\r\n",
                        strlen(client->options.key), client->options.key);
    if (send(client->fd, request, (size_t)size, MSG_NOSIGNAL) != size) {
        connection_failed(client, errno);
        return;
    }
    int64_t patience = now_ns() + client->options.silence_ns;
    char reply[128];
    size_t got = 0;
    /* "$SIZE\r\nVALUE\r\n": complete with the second line feed. */
    char *value = NULL;
    while (!value || !strchr(value, '\n')) {
        int64_t left_ms = (patience - now_ns()) / NS_PER_MS;
        struct pollfd fd = {.fd = client->fd, .events = POLLIN};
        if (left_ms <= 0 || got + 1 >= sizeof(reply)) {
            client->silent = true;
            return;
        }
        if (poll(&fd, 1, (int)left_ms) <= 0) {
            continue;
        }
        ssize_t n = recv(client->fd, reply + got, sizeof(reply) - 1 - got, 0);
        if (n <= 0) {
            connection_failed(client, n == 0 ? 0 : errno);
            return;
        }
        got += (size_t)n;
        reply[got] = '\0';
        value = strchr(reply, '\n');
        value = value ? value + 1 : NULL;
    }
    client->final_checked = true;
    client->final_value = strtoll(value, NULL, 10);
    client->final_right = client->final_value == client->last;
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* Prints the distribution of round trips [from, to), in microseconds. */
static void print_round_trips(struct client *client, const char *name, size_t from, size_t to)
{
    uint32_t p50 = 0, p99 = 0, max = 0;
    if (from < to) {
        uint32_t *values = client->round_trips_us + from;
        size_t last = to - from - 1;
        qsort(values, last + 1, sizeof(*values), compare_u32);
        p50 = values[last / 2];
        p99 = values[last * 99 / 100];
        max = values[last];
    }
    printf("\"%s\": {\"p50\": %" PRIu32 ", \"p99\": %" PRIu32 ", \"max\": %" PRIu32 "}, ", name,
           p50, p99, max);
}

static bool is_good(const struct client *client)
{
    return connection_lives(client) && client->acknowledged > 0 && client->backward == 0 &&
           client->skipped == 0 && client->errors == 0 && client->final_checked &&
           client->final_right &&
           (!client->options.victim || (client->killed_at && client->first_after_kill));
}

static void print_summary(struct client *client)
{
    printf("{\"ok\": %s, \"acknowledged\": %" PRIu64 ", \"sent\": %" PRIu64 ", "
           "\"first\": %" PRId64 ", \"last\": %" PRId64 ", "
           "\"lost\": %" PRIu64 ", \"backward\": %" PRIu64 ", \"skipped\": %" PRIu64 ", "
           "\"errors\": %" PRIu64 ", \"resets\": %d, \"closed\": %d, \"silent\": %d, "
           "\"error\": \"%s\", ",
           is_good(client) ? "true" : "false", client->acknowledged, client->sent, client->first,
           client->last, client->lost, client->backward, client->skipped, client->errors,
           client->reset, client->closed, client->silent,
           client->connection_errno ? strerror(client->connection_errno) : "");
    printf("\"longest_gap_ms\": %.3f, \"gap_begin_ns\": %" PRId64 ", \"gap_end_ns\": %" PRId64 ", ",
           (double)client->gap_ns / (double)NS_PER_MS, client->gap_begin, client->gap_end);
    size_t before = client->round_trips;
    if (client->killed_at && client->acknowledged_at_kill < before) {
        before = (size_t)client->acknowledged_at_kill;
        print_round_trips(client, "round_trip_after_us", before, client->round_trips);
    }
    print_round_trips(client, "round_trip_us", 0, before);
    if (client->killed_at) {
        printf("\"killed_ns\": %" PRId64 ", \"acknowledged_at_kill\": %" PRIu64 ", "
               "\"first_after_kill_ns\": %" PRId64 ", ",
               client->killed_at, client->acknowledged_at_kill, client->first_after_kill);
    }
    printf("\"final_checked\": %s, \"final_right\": %s, \"final_value\": %" PRId64 ", "
           "\"began_ns\": %" PRId64 ", \"seconds\": %.3f}\n",
           client->final_checked ? "true" : "false", client->final_right ? "true" : "false",
           client->final_value, client->began,
           (double)(now_ns() - client->began) / (double)NS_PER_S);
}

/* Tries until it works or the time is over; the server may still be booting. */
static int connect_client(struct client *client)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(client->options.port)};
    if (inet_pton(AF_INET, client->options.address, &address.sin_addr) != 1) {
        fprintf(stderr, "incr-client: %s is not an IPv4 address\n", client->options.address);
        return EXIT_USAGE;
    }
    int64_t until = now_ns() + client->options.connect_ns;
    for (;;) {
        client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        /* Bounds the attempt, not the connection: after it, silence is judged by run(). */
        struct timeval limit = {.tv_sec = 1};
        setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
        if (connect(client->fd, (struct sockaddr *)&address, sizeof(address)) == 0) {
            int on = 1;
            setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
            return EXIT_GOOD;
        }
        int error = errno == EINPROGRESS ? ETIMEDOUT : errno;
        close(client->fd);
        struct pollfd signals = {.fd = client->signals, .events = POLLIN};
        if (now_ns() >= until || poll(&signals, 1, (int)(CONNECT_RETRY / NS_PER_MS)) > 0) {
            fprintf(stderr, "incr-client: cannot connect to %s port %u: %s\n",
                    client->options.address, client->options.port, strerror(error));
            return EXIT_NO_CONNECTION;
        }
    }
}

/* A positive number of seconds as nanoseconds, or -1. */
static int64_t parse_seconds(const char *text)
{
    char *end;
    double seconds = strtod(text, &end);
    if (end == text || *end || !(seconds > 0 && seconds < 1e6)) {
        return -1;
    }
    return (int64_t)(seconds * (double)NS_PER_S);
}

static bool parse_number(const char *text, unsigned long limit, unsigned long *value)
{
    char *end;
    errno = 0;
    *value = strtoul(text, &end, 10);
    return end != text && !*end && !errno && *value > 0 && *value <= limit;
}

/* False: wrong usage, which has been reported. */
static bool parse_options(int argc, char **argv, struct options *options)
{
    static const struct option table[] = {
        {"duration", required_argument, NULL, 'd'}, {"depth", required_argument, NULL, 'p'},
        {"key", required_argument, NULL, 'k'},      {"connect", required_argument, NULL, 'c'},
        {"silence", required_argument, NULL, 's'},  {"log", required_argument, NULL, 'l'},
        {"kill", required_argument, NULL, 'x'},     {"kill-after", required_argument, NULL, 'n'},
        {"help", no_argument, NULL, 'h'},           {NULL, 0, NULL, 0},
    };
    unsigned long number;
    int option;
    while ((option = getopt_long(argc, argv, "h", table, NULL)) != -1) {
        bool right = true;
        switch (option) {
        case 'h':
            fputs(usage_text, stdout);
            exit(EXIT_GOOD);
        case 'd':
            right = (options->duration_ns = parse_seconds(optarg)) > 0;
            break;
        case 'c':
            right = (options->connect_ns = parse_seconds(optarg)) > 0;
            break;
        case 's':
            right = (options->silence_ns = parse_seconds(optarg)) > 0;
            break;
        case 'p':
            right = parse_number(optarg, DEPTH_MAX, &number);
            options->depth = (unsigned)number;
            break;
        case 'x':
            right = parse_number(optarg, INT32_MAX, &number);
            options->victim = (pid_t)number;
            break;
        case 'n':
            right = (options->kill_after_ns = parse_seconds(optarg)) > 0;
            break;
        case 'k':
            options->key = optarg;
            right = *optarg && strlen(optarg) <= KEY_MAX;
            break;
        case 'l':
            options->log = fopen(optarg, "we");
            if (!options->log) {
                fprintf(stderr, "incr-client: cannot write %s: %s\n", optarg, strerror(errno));
                return false;
            }
            break;
        default:
            return false;
        }
        if (!right) {
            fprintf(stderr, "incr-client: '%s' is out of range (try --help)\n", optarg);
            return false;
        }
    }
    if (argc - optind != 2 || !parse_number(argv[optind + 1], UINT16_MAX, &number)) {
        fputs("incr-client: needs an address and a port (try --help)\n", stderr);
        return false;
    }
    options->address = argv[optind];
    options->port = (uint16_t)number;
    return true;
}

int main(int argc, char **argv)
{
    static struct client client = {
        .options = {.connect_ns = 10 * NS_PER_S,
                    .silence_ns = 60 * NS_PER_S,
                    .depth = 1,
                    .kill_after_ns = NS_PER_S,
                    .key = "kemari-counter"},
    };
    if (!parse_options(argc, argv, &client.options)) {
        return EXIT_USAGE;
    }
    client.request_size = (size_t)snprintf(client.request, sizeof(client.request),
                                           "*2\r\n$4\r\nINCR\r\n$%zu\r\n%s\r\n",
                                           strlen(client.options.key), client.options.key);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    client.signals = signalfd(-1, &set, SFD_CLOEXEC);
    int status = connect_client(&client);
    if (status != EXIT_GOOD) {
        return status;
    }
    client.began = now_ns();
    run(&client);
    if (connection_lives(&client) && client.errors == 0) {
        check_final(&client);
    }
    print_summary(&client);
    if (client.options.log && fclose(client.options.log)) {
        perror("incr-client: log");
        return EXIT_VIOLATION;
    }
    close(client.fd);
    free(client.round_trips_us);
    return is_good(&client) ? EXIT_GOOD : EXIT_VIOLATION;
}
