/* usage: test-scribbler FD SIZE
 *
 * A process that writes to guest memory, as stock QEMU does: maps SIZE bytes of the file FD, shared
 * and in two pieces, and writes for ever, by two threads with stores and by one through the kernel
 * (read() into the memory). The first eight bytes of the memory count the writes. Ends with its
 * parent. */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define PAGE 4096u

static uint8_t *memory;
static uint64_t pages;

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Half of the writes go to a few pages, the rest anywhere, and never to the counter. */
static uint8_t *pick(uint64_t *state)
{
    const uint64_t random = next_random(state);
    const uint64_t page = 1 + (random & 1 ? random >> 1 & 63 : (random >> 1) % (pages - 1));
    return memory + page * PAGE + next_random(state) % (PAGE / 8) * 8;
}

static void count(void)
{
    __atomic_fetch_add((uint64_t *)(void *)memory, 1, __ATOMIC_RELEASE);
}

static void *store(void *context)
{
    uint64_t state = (uintptr_t)context;
    for (;;) {
        __atomic_store_n((uint64_t *)(void *)pick(&state), next_random(&state), __ATOMIC_RELAXED);
        count();
        if (state % 16 == 0)
            usleep(50);
    }
    return NULL;
}

static void read_into(void)
{
    int ends[2];
    uint64_t state = 77;
    if (pipe(ends) < 0)
        exit(1);
    for (;;) {
        const uint64_t value = next_random(&state);
        if (write(ends[1], &value, sizeof(value)) != sizeof(value) ||
            read(ends[0], pick(&state), sizeof(value)) != sizeof(value))
            exit(1);
        count();
        usleep(20);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int fd = atoi(argv[1]);
    const size_t size = strtoull(argv[2], NULL, 10);
    const size_t half = size / 2;
    memory = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED ||
        mmap(memory, half, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
        mmap(memory + half, size - half, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
             (off_t)half) == MAP_FAILED)
        return 1;
    pages = size / PAGE;
    pthread_t thread;
    for (uintptr_t i = 1; i <= 2; i++)
        if (pthread_create(&thread, NULL, store, (void *)(i * 0x9e3779b97f4a7c15u)) != 0)
            return 1;
    read_into();
}
