/* A split ring whose guest memory and whose operations are the fuzzer's.
 *
 * Input: IMAGE bytes become the start of guest memory (descriptors at 0, available ring at 0x80,
 * used ring at 0xc0, the rest for indirect tables), then one operation per three bytes. Checked:
 * chains stay inside guest memory and inside their bounds, sizes add up, and what was published
 * before never changes the counters. */
#include <stdlib.h>
#include <string.h>

#include "vmm/virtqueue.h"

#define IMAGE  0x200
#define MEMORY ((uint64_t)2 << 20)

static struct gmem *memory;
static struct virtqueue_chain chain;

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void check_chain(void)
{
    const struct gmem_slot *slot = gmem_slot_at(memory, 0);
    uint64_t sizes[2] = {0, 0};
    require(chain.out_count + chain.in_count <= VIRTQUEUE_CHAIN_MAX);
    for (unsigned i = 0; i < chain.out_count + chain.in_count; i++) {
        const struct virtqueue_segment *s = &chain.segments[i];
        require(s->size > 0 && s->gpa < MEMORY && s->size <= MEMORY - s->gpa);
        require(s->host == slot->host + s->gpa);
        sizes[i >= chain.out_count] += s->size;
    }
    require(sizes[0] == chain.out_size && sizes[1] == chain.in_size);
}

/* Between operations `popped` chains are out, `pushed` of them given back but not published. */
struct book {
    uint16_t popped;
    uint16_t pushed;
};

static void rewind_some(struct virtqueue *q, struct book *book, uint8_t a)
{
    const uint16_t count = (uint16_t)(a % (book->pushed + 1u));
    virtqueue_rewind(q, count, count);
    book->pushed = (uint16_t)(book->pushed - count);
}

static void step(struct virtqueue *q, struct book *book, uint8_t op, uint8_t a, uint8_t b)
{
    uint8_t bytes[64] = {0};
    switch (op % 9) {
    case 0:
        if (virtqueue_pop(q, &chain) == 1) {
            check_chain();
            book->popped++;
        }
        break;
    case 1:
        if (book->popped) {
            virtqueue_push(q, chain.head, a);
            book->popped--;
            book->pushed++;
        }
        break;
    case 2:
        virtqueue_publish(q);
        book->pushed = 0;
        require(q->published == q->next_used);
        break;
    case 3:
        if (book->popped == 0)
            rewind_some(q, book, a);
        break;
    case 4:
        virtqueue_set_kicks(q, a & 1);
        break;
    case 5:
        require(virtqueue_chain_read(&chain, a, bytes, b % sizeof(bytes)) <= b % sizeof(bytes));
        break;
    case 6:
        virtqueue_chain_write(q, &chain, a, bytes, b % sizeof(bytes));
        break;
    case 7:
        *gmem_view(memory, a + 256u * (b & 1), 1) = b;
        break;
    default:
        require(virtqueue_waiting(q) <= q->size || q->broken);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct gmem_config config = {.size = MEMORY};
    if (!memory && gmem_create(&config, &memory, NULL) < 0)
        abort();
    if (size < IMAGE + 2)
        return 0;
    memset(&chain, 0, sizeof(chain));
    memcpy(gmem_view(memory, 0, IMAGE), data, IMAGE);
    struct virtqueue q = {.memory = memory, .size_max = 8};
    virtqueue_reset(&q);
    q.driver = 0x80;
    q.device = 0xc0;
    q.event_idx = data[IMAGE] & 1;
    require(virtqueue_enable(&q));
    struct book book = {0};
    for (size_t i = IMAGE + 1; i + 3 <= size; i += 3)
        step(&q, &book, data[i], data[i + 1], data[i + 2]);
    return 0;
}
