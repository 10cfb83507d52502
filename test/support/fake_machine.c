#include "test/support/fake_machine.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/wire.h"

struct fake_machine {
    struct fake_machine_config config;
    struct gmem *memory;
    struct outbox *outbox;
    pthread_t guest;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stop;
    bool run;    /* wanted */
    bool parked; /* reached */
    bool refuse_states;
    bool output_delayed;
    unsigned asked; /* whether output has arrived */
    uint64_t steps;
};

/* splitmix64's finaliser: spreads consecutive numbers over pages. */
static uint64_t page_of_step(uint64_t step, uint64_t pages)
{
    uint64_t z = step * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (z ^ (z >> 31)) % pages;
}

static void step(struct fake_machine *m)
{
    const uint64_t n = m->steps + 1;
    const uint64_t page = page_of_step(n, gmem_page_count(m->memory));
    gmem_write(m->memory, page << PAGE_SHIFT, &n, sizeof(n));
    m->steps = n;
    if (m->outbox && m->config.output_every && n % m->config.output_every == 0) {
        static const uint8_t padding[FAKE_OUTPUT_MAX];
        const size_t more =
            m->config.output_size > sizeof(n) ? m->config.output_size - sizeof(n) : 0;
        const struct iovec parts[] = {{(void *)&n, sizeof(n)}, {(void *)(uintptr_t)padding, more}};
        outbox_put(m->outbox, 0, parts, 2, OUTBOX_PACKET);
    }
}

static void *guest_main(void *context)
{
    struct fake_machine *m = context;
    pthread_mutex_lock(&m->lock);
    while (!m->stop) {
        if (!m->run) {
            m->parked = true;
            pthread_cond_broadcast(&m->changed);
            pthread_cond_wait(&m->changed, &m->lock);
            continue;
        }
        pthread_mutex_unlock(&m->lock);
        for (unsigned i = 0; i < m->config.burst || i == 0; i++)
            step(m);
        if (m->config.step_usec) {
            const struct timespec pace = {.tv_nsec = (long)m->config.step_usec * 1000};
            nanosleep(&pace, NULL);
        }
        pthread_mutex_lock(&m->lock);
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

struct fake_machine *fake_machine_create(const struct fake_machine_config *config)
{
    struct fake_machine *m = calloc(1, sizeof(*m));
    m->config = *config;
    if (gmem_create(&(struct gmem_config){.size = config->memory}, &m->memory, NULL) < 0)
        abort();
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->changed, NULL);
    pthread_create(&m->guest, NULL, guest_main, m);
    return m;
}

void fake_machine_destroy(struct fake_machine **machine)
{
    struct fake_machine *m = *machine;
    pthread_mutex_lock(&m->lock);
    m->stop = true;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    pthread_join(m->guest, NULL);
    gmem_destroy(&m->memory);
    free(m);
    *machine = NULL;
}

uint64_t fake_machine_steps(struct fake_machine *machine)
{
    return machine->steps;
}

bool fake_machine_wait_parked(struct fake_machine *m)
{
    const struct timespec until = {.tv_sec = time(NULL) + 60};
    int rc = 0;
    pthread_mutex_lock(&m->lock);
    while (!m->parked && rc == 0)
        rc = pthread_cond_timedwait(&m->changed, &m->lock, &until);
    pthread_mutex_unlock(&m->lock);
    return rc == 0;
}

void fake_machine_delay_output(struct fake_machine *m, bool delayed)
{
    pthread_mutex_lock(&m->lock);
    m->output_delayed = delayed;
    m->asked = 0;
    pthread_mutex_unlock(&m->lock);
}

bool fake_machine_wait_asked(struct fake_machine *m, unsigned times)
{
    const struct timespec until = {.tv_sec = time(NULL) + 60};
    int rc = 0;
    pthread_mutex_lock(&m->lock);
    while (m->asked < times && rc == 0)
        rc = pthread_cond_timedwait(&m->changed, &m->lock, &until);
    pthread_mutex_unlock(&m->lock);
    return rc == 0;
}

bool fake_machine_memory_is_right(struct fake_machine *machine, uint64_t steps)
{
    const uint64_t pages = gmem_page_count(machine->memory);
    uint64_t *expected = calloc(pages, sizeof(*expected));
    for (uint64_t i = 1; i <= steps; i++)
        expected[page_of_step(i, pages)] = i;
    bool right = true;
    for (uint64_t p = 0; p < pages; p++) {
        uint64_t value = 0;
        gmem_read(machine->memory, p << PAGE_SHIFT, &value, sizeof(value));
        right = right && value == expected[p];
    }
    free(expected);
    return right;
}

void fake_machine_refuse_states(struct fake_machine *machine)
{
    machine->refuse_states = true;
}

static struct gmem *fake_memory(void *machine)
{
    return ((struct fake_machine *)machine)->memory;
}

static const char *fake_identity(void *machine)
{
    (void)machine;
    return "machine=fake\n";
}

static int fake_dirty_start(void *machine, struct error *err)
{
    (void)machine, (void)err;
    return 0;
}

static void take_marks(void *set, size_t word, uint64_t bits)
{
    dirty_set_or(set, word, &bits, 1);
}

static int fake_dirty_collect(void *machine, struct dirty_set *set, struct error *err)
{
    (void)err;
    gmem_take_marks_each(fake_memory(machine), take_marks, set);
    return 0;
}

static void fake_dirty_stop(void *machine)
{
    (void)machine;
}

static void set_running(struct fake_machine *m, bool run)
{
    pthread_mutex_lock(&m->lock);
    m->run = run;
    if (run)
        m->parked = false;
    pthread_cond_broadcast(&m->changed);
    while (!run && !m->parked)
        pthread_cond_wait(&m->changed, &m->lock);
    pthread_mutex_unlock(&m->lock);
}

static void fake_park(void *machine)
{
    set_running(machine, false);
}

static void fake_resume(void *machine)
{
    set_running(machine, true);
}

static int fake_save(void *machine, struct section_set *set, struct error *err)
{
    struct fake_machine *m = machine;
    uint8_t *out = section_set_add(set, "steps", 0, 1, 8);
    if (!out)
        return error_set(err, -ENOMEM, "no room");
    struct wire_writer w = {.bytes = out, .size = 8};
    wire_put_u64(&w, m->steps);
    return 0;
}

static int fake_check(void *machine, const struct section_set *set, struct error *err)
{
    const struct fake_machine *m = machine;
    const struct section *s = section_set_find(set, "steps", 0);
    if (m->refuse_states || !s || s->size != 8)
        return error_set(err, -EINVAL, "state does not fit this machine");
    return 0;
}

static int fake_load(void *machine, const struct section_set *set, nsec_t elapsed,
                     struct error *err)
{
    struct fake_machine *m = machine;
    if (elapsed < 0 || fake_check(machine, set, err) < 0)
        return error_set(err, -EINVAL, "can't load");
    struct wire_reader r = {.bytes = section_set_data(set, section_set_find(set, "steps", 0)),
                            .size = 8};
    m->steps = wire_get_u64(&r);
    return 0;
}

static void fake_output_to(void *machine, struct outbox *outbox)
{
    ((struct fake_machine *)machine)->outbox = outbox;
}

static int fake_output_open(void *machine, struct error *err)
{
    (void)machine, (void)err;
    return 0;
}

static void fake_output_close(void *machine)
{
    (void)machine;
}

static void fake_announce(void *machine)
{
    (void)machine;
}

static void fake_emit(void *machine, uint32_t port, const uint8_t *data, size_t size)
{
    const struct fake_machine *m = machine;
    uint64_t step_seen = 0;
    (void)port;
    memcpy(&step_seen, data, size < sizeof(step_seen) ? size : sizeof(step_seen));
    m->config.visible(m->config.context, step_seen);
}

static bool fake_output_done(void *machine)
{
    struct fake_machine *m = machine;
    pthread_mutex_lock(&m->lock);
    const bool done = !m->output_delayed;
    m->asked++;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    return done;
}

struct checkpoint_machine fake_machine_ops(struct fake_machine *machine)
{
    static const struct checkpoint_machine_ops ops = {
        .name = "fake",
        .memory = fake_memory,
        .identity = fake_identity,
        .dirty_start = fake_dirty_start,
        .dirty_collect = fake_dirty_collect,
        .dirty_stop = fake_dirty_stop,
        .park = fake_park,
        .resume = fake_resume,
        .save = fake_save,
        .check = fake_check,
        .load = fake_load,
        .output_to = fake_output_to,
        .output_open = fake_output_open,
        .output_close = fake_output_close,
        .announce = fake_announce,
        .emit = fake_emit,
        .output_done = fake_output_done,
    };
    return (struct checkpoint_machine){.ops = &ops, .context = machine};
}
