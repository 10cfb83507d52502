#include "checkpoint/link_cost.h"

#define GIGABIT 8.0 /* ns per byte */
/* Below this a time says more about the host than about the link. */
#define BYTES_MIN ((uint64_t)16 << 10)
/* What is sent here is received there, copied and digested again, and the sender sees none of that.
 */
#define BOTH_ENDS 2
/* Noise only ever adds time: what is better is believed sooner than what is worse. */
#define BETTER (1.0 / 2)
#define WORSE  (1.0 / 16)

static double towards(double known, double sample)
{
    if (known == 0)
        return sample;
    return known + (sample - known) * (sample < known ? BETTER : WORSE);
}

void link_cost_sent(struct link_cost *cost, uint64_t bytes, nsec_t took)
{
    if (bytes >= BYTES_MIN && took > 0)
        cost->sending = towards(cost->sending, BOTH_ENDS * (double)took / (double)bytes);
}

void link_cost_acknowledged(struct link_cost *cost, uint64_t bytes, nsec_t took)
{
    if (took <= 0)
        return;
    const double ns = (double)took;
    if (bytes < BYTES_MIN)
        cost->idle = towards(cost->idle, ns);
    else if (cost->idle > 0)
        cost->acked =
            towards(cost->acked, ns > cost->idle ? (ns - cost->idle) / (double)bytes : 0.01);
}

double link_cost_per_byte(const struct link_cost *cost)
{
    const double known = cost->sending > cost->acked ? cost->sending : cost->acked;
    return known > 0 ? known : GIGABIT;
}
