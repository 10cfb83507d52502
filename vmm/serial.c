/* Rules: National Semiconductor PC16550D data sheet. */
#include "vmm/serial.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/state.h"

#define REGISTERS 8
#define FIFO_SIZE 16

enum { RBR_THR_DLL, IER_DLM, IIR_FCR, LCR, MCR, LSR, MSR, SCR };

#define IER_RECEIVE       0x01
#define IER_TRANSMIT      0x02
#define IER_LINE          0x04
#define IER_ALL           0x0f

#define IIR_NONE          0x01
#define IIR_TRANSMIT      0x02
#define IIR_RECEIVE       0x04
#define IIR_LINE          0x06
#define IIR_FIFOS         0xc0

#define FCR_ENABLE        0x01
#define FCR_CLEAR_RECEIVE 0x02
#define FCR_KEPT          0xc9 /* enable, DMA mode, trigger level */

#define LCR_DLAB          0x80

#define MCR_LOOP          0x10
#define MCR_ALL           0x1f

#define LSR_READY         0x01
#define LSR_OVERRUN       0x02
#define LSR_EMPTY         0x60 /* holding register and shift register */

#define MSR_LINES         0xb0 /* carrier, data set ready, clear to send */

struct serial {
    /* set at creation */
    struct irq irq;
    struct serial_config config;

    /* device lock; part of the state */
    uint8_t ier, fcr, lcr, mcr, scr;
    uint16_t divisor;
    uint8_t overrun;          /* 0 or 1: a byte was lost, not read yet */
    uint8_t transmit_pending; /* 0 or 1: "transmitter empty" has not been acknowledged */
    uint8_t fifo[FIFO_SIZE];
    uint8_t fifo_count;
};

static const struct state_field fields[] = {
    STATE_UINT(struct serial, ier, 0, IER_ALL),
    STATE_UINT(struct serial, fcr, STATE_ANY8),
    STATE_UINT(struct serial, lcr, STATE_ANY8),
    STATE_UINT(struct serial, mcr, 0, MCR_ALL),
    STATE_UINT(struct serial, scr, STATE_ANY8),
    STATE_UINT(struct serial, divisor, STATE_ANY16),
    STATE_UINT(struct serial, overrun, 0, 1),
    STATE_UINT(struct serial, transmit_pending, 0, 1),
    STATE_UINT(struct serial, fifo_count, 0, FIFO_SIZE),
    STATE_BYTES(struct serial, fifo),
};

static const struct state_table table = {"serial", 1, fields, ARRAY_SIZE(fields), NULL};

static uint8_t interrupt_cause(const struct serial *s)
{
    if ((s->ier & IER_LINE) && s->overrun)
        return IIR_LINE;
    if ((s->ier & IER_RECEIVE) && s->fifo_count)
        return IIR_RECEIVE;
    if ((s->ier & IER_TRANSMIT) && s->transmit_pending)
        return IIR_TRANSMIT;
    return IIR_NONE;
}

static void update_interrupt(struct serial *s)
{
    irq_level(&s->irq, SERIAL_IRQ, interrupt_cause(s) != IIR_NONE);
}

static void receive_byte(struct serial *s, uint8_t byte)
{
    if (s->fifo_count == FIFO_SIZE)
        s->overrun = 1;
    else
        s->fifo[s->fifo_count++] = byte;
}

static uint8_t take_byte(struct serial *s)
{
    if (s->fifo_count == 0)
        return 0;
    const uint8_t byte = s->fifo[0];
    memmove(s->fifo, s->fifo + 1, --s->fifo_count);
    if (s->fifo_count == 0 && s->config.drained)
        s->config.drained(s->config.drained_context);
    return byte;
}

static uint8_t modem_status(const struct serial *s)
{
    if (!(s->mcr & MCR_LOOP))
        return MSR_LINES;
    /* Loop-back: DTR -> DSR, RTS -> CTS, OUT1 -> RI, OUT2 -> DCD. */
    return (uint8_t)((s->mcr & 0x1) << 5 | (s->mcr & 0x2) << 3 | (s->mcr & 0x4) << 4 |
                     (s->mcr & 0x8) << 4);
}

static uint8_t read_register(struct serial *s, uint64_t offset)
{
    const bool dlab = s->lcr & LCR_DLAB;
    uint8_t value;
    switch (offset) {
    case RBR_THR_DLL:
        return dlab ? (uint8_t)s->divisor : take_byte(s);
    case IER_DLM:
        return dlab ? (uint8_t)(s->divisor >> 8) : s->ier;
    case IIR_FCR:
        value = interrupt_cause(s);
        if (value == IIR_TRANSMIT)
            s->transmit_pending = 0; /* reading the cause acknowledges it */
        return value | (s->fcr & FCR_ENABLE ? IIR_FIFOS : 0);
    case LCR:
        return s->lcr;
    case MCR:
        return s->mcr;
    case LSR:
        value =
            (uint8_t)(LSR_EMPTY | (s->fifo_count ? LSR_READY : 0) | (s->overrun ? LSR_OVERRUN : 0));
        s->overrun = 0;
        return value;
    case MSR:
        return modem_status(s);
    default:
        return s->scr;
    }
}

static void transmit(struct serial *s, uint8_t byte)
{
    if (s->mcr & MCR_LOOP)
        receive_byte(s, byte);
    else if (s->config.output)
        s->config.output->console(s->config.output_context, MACHINE_CONSOLE_SERIAL, &byte, 1);
    s->transmit_pending = 1;
}

static void write_register(struct serial *s, uint64_t offset, uint8_t value)
{
    const bool dlab = s->lcr & LCR_DLAB;
    switch (offset) {
    case RBR_THR_DLL:
        if (dlab)
            s->divisor = (uint16_t)((s->divisor & 0xff00) | value);
        else
            transmit(s, value);
        break;
    case IER_DLM:
        if (dlab) {
            s->divisor = (uint16_t)((s->divisor & 0xff) | value << 8);
            break;
        }
        /* Enabling the transmit interrupt while the transmitter is empty raises it. */
        if (value & ~s->ier & IER_TRANSMIT)
            s->transmit_pending = 1;
        s->ier = value & IER_ALL;
        break;
    case IIR_FCR:
        if (value & FCR_CLEAR_RECEIVE || ((value ^ s->fcr) & FCR_ENABLE))
            s->fifo_count = 0;
        s->fcr = value & FCR_KEPT;
        break;
    case LCR:
        s->lcr = value;
        break;
    case MCR:
        s->mcr = value & MCR_ALL;
        break;
    case SCR:
        s->scr = value;
        break;
    default: /* line and modem status are read-only */
        break;
    }
}

/* Wider accesses are split, as the bus of a PC does. */
static void on_read(void *context, uint64_t offset, uint8_t *data, uint32_t size)
{
    struct serial *s = context;
    for (uint32_t i = 0; i < size; i++)
        data[i] = read_register(s, offset + i);
    update_interrupt(s);
}

static void on_write(void *context, uint64_t offset, const uint8_t *data, uint32_t size)
{
    struct serial *s = context;
    for (uint32_t i = 0; i < size; i++)
        write_register(s, offset + i, data[i]);
    update_interrupt(s);
}

static const struct bus_ops bus_ops = {.read = on_read, .write = on_write};

static void on_reset(void *context)
{
    struct serial *s = context;
    const struct serial fresh = {.irq = s->irq, .config = s->config, .divisor = 12};
    *s = fresh;
    update_interrupt(s);
}

static int on_save(const void *context, uint32_t instance, struct section_set *set,
                   struct error *err)
{
    return state_save(&table, instance, context, set, err);
}

static int on_check(const void *context, uint32_t instance, const struct section_set *set,
                    struct error *err)
{
    (void)context;
    struct serial scratch;
    return state_decode(&table, instance, &scratch, NULL, set, err);
}

/* The level of the interrupt line is part of the interrupt controllers' state. */
static void on_load(void *context, uint32_t instance, const struct section_set *set)
{
    struct serial *s = context;
    struct serial scratch = *s;
    if (state_decode(&table, instance, &scratch, NULL, set, NULL) == 0)
        *s = scratch;
}

static void on_destroy(void *context)
{
    free(context);
}

static const struct device_ops device_ops = {
    .name = "serial",
    .reset = on_reset,
    .save = on_save,
    .check = on_check,
    .load = on_load,
    .destroy = on_destroy,
};

int serial_create(const struct device_env *env, struct bus *ports,
                  const struct serial_config *config, struct device *out, struct error *err)
{
    struct serial *s = calloc(1, sizeof(*s));
    if (!s)
        return error_set(err, -ENOMEM, "serial: out of memory");
    s->irq = env->irq;
    s->config = *config;
    const int rc = bus_claim(ports, "serial", SERIAL_PORT, REGISTERS, &bus_ops, s, err);
    if (rc < 0) {
        free(s);
        return rc;
    }
    s->divisor = 12;
    *out = (struct device){.ops = &device_ops, .context = s};
    return 0;
}

size_t serial_receive(const struct device *serial, const uint8_t *data, size_t size)
{
    struct serial *s = serial->context;
    size_t taken = 0;
    while (taken < size && s->fifo_count < FIFO_SIZE)
        receive_byte(s, data[taken++]);
    if (taken)
        update_interrupt(s);
    return taken;
}
