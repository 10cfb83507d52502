/* How a state is had from a QEMU that stands. There are two ways, and the machine's memory says
 * which one is its own (qemu/ram_blocks.h):
 *
 *   devices    `xen-save-devices-state` writes devices and processors to a file; a firmware that
 *              the guest can write is asked for beside it.
 *   migration  `migrate` into a file, with the capability x-ignore-shared: besides, it writes all
 *              memory but the guest's, which is shared. For machines with memory of their own. It
 *              ends in its own time, which an event tells, and it gives up the machine's disks; a
 *              `cont` takes them back.
 *
 * A state that was had by migration is kept until the guest runs, since QEMU doesn't migrate twice
 * from one place. */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "qemu/internal.h"
#include "qemu/stream.h"

#define SAVE       "xen-save-devices-state"
#define STATE_NAME "state" /* of the file, inside QEMU */

/* Bytes a second: all there is, at once. */
#define BANDWIDTH ((json_int_t)1 << 40)

int cut_open(struct qemu_machine *m, struct error *err)
{
    struct qmp *control = m->session.control;
    if (!m->session.blocks.own)
        return 0;
    const int rc = qmp_call(
        control, "migrate-set-capabilities",
        json_pack("{s:[{s:s, s:b}]}", "capabilities", "capability", "x-ignore-shared", "state", 1),
        NULL, QEMU_START_TIMEOUT, err);
    return rc < 0 ? rc
                  : qmp_call(control, "migrate-set-parameters",
                             json_pack("{s:I}", "max-bandwidth", BANDWIDTH), NULL,
                             QEMU_START_TIMEOUT, err);
}

/* ---- asking ---- */

/* Not "live": a stopped guest's disks would be given up. */
static json_t *save_arguments(void)
{
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", QEMU_FD_SAVED);
    return json_pack("{s:s, s:b}", "filename", path, "live", 0);
}

static json_t *migrate_arguments(void)
{
    return json_pack("{s:s}", "uri", "fd:" STATE_NAME);
}

static int hand_over(struct qemu_session *s, struct error *err)
{
    return qmp_send_fd(s->saver, "getfd", json_pack("{s:s}", "fdname", STATE_NAME), s->saved_fd,
                       err);
}

int cut_prepare(struct qemu_machine *m, struct error *err)
{
    struct qemu_session *s = &m->session;
    if (!s->blocks.own)
        return qmp_prepare(s->saver, SAVE, save_arguments(), err);
    int rc = 0;
    if (!s->handed) {
        rc = hand_over(s, err);
        if (rc == 0)
            rc = qmp_receive(s->saver, NULL, QEMU_ANSWER_TIMEOUT, err);
        s->handed = rc == 0;
    }
    if (rc < 0) /* a refusal is for whoever asks for the state to hear */
        return rc == -EIO ? 0 : rc;
    return qmp_prepare(s->saver, "migrate", migrate_arguments(), err);
}

static int ask_migration(struct qemu_machine *m, struct error *err)
{
    struct qemu_session *s = &m->session;
    s->migration_ended = s->migration_failed = false;
    /* What is behind the end is of an earlier state: the place in the file, which QEMU has, too,
     * will tell where that is. */
    if (lseek(s->saved_fd, 0, SEEK_SET) < 0)
        return error_set(err, -errno, "state of QEMU: its file can't be used");
    int rc = 0;
    if (!s->handed) {
        rc = hand_over(s, err);
        s->answers_due += rc == 0;
    }
    s->handed = false;
    return rc == 0 ? qmp_send(s->saver, "migrate", migrate_arguments(), err) : rc;
}

static int ask_devices(struct qemu_machine *m, struct error *err)
{
    const int rc = m->firmware_writable ? session_ask_firmware(m, err) : 0;
    m->session.firmware_due = m->firmware_writable && rc == 0;
    return rc == 0 ? qmp_send(m->session.saver, SAVE, save_arguments(), err) : rc;
}

int cut_ask(struct qemu_machine *m, struct error *err)
{
    struct qemu_session *s = &m->session;
    int rc = 0;
    s->answers_due = 0;
    if (!s->kept) {
        rc = s->blocks.own ? ask_migration(m, err) : ask_devices(m, err);
        s->answers_due += rc == 0;
    }
    m->saving = rc == 0;
    return rc;
}

/* ---- taking ---- */

/* All of them. -EIO with the first refusal. */
static int take_answers(struct qemu_session *s, struct error *err)
{
    struct error refusal = {0};
    while (s->firmware_due || s->answers_due) {
        const bool firmware = s->firmware_due;
        const int rc =
            qmp_receive(firmware ? s->control : s->saver, NULL, QEMU_ANSWER_TIMEOUT, err);
        if (rc < 0 && rc != -EIO)
            return rc;
        s->firmware_due = false;
        s->answers_due -= !firmware;
        if (rc < 0 && !refusal.code)
            refusal = *err;
    }
    if (refusal.code)
        *err = refusal;
    return refusal.code;
}

int cut_end(struct qemu_machine *m, struct error *err)
{
    struct qemu_session *s = &m->session;
    struct error unheard;
    err = err ? err : &unheard;
    int rc = take_answers(s, err);
    if (rc == 0 && s->blocks.own && !s->kept)
        rc = qmp_wait_event(s->control, &s->migration_ended, QEMU_ANSWER_TIMEOUT, err);
    if (rc == 0 && s->blocks.own && s->migration_failed)
        rc = error_set(err, -EIO, "the migration failed: QEMU's own message is above");
    /* One that takes longer is waited for once more, when the guest is to run. */
    m->saving = rc == -ETIMEDOUT;
    if (rc < 0)
        return error_prefix(err, "state of QEMU");
    s->kept = s->blocks.own;
    return 0;
}

int cut_read(struct qemu_machine *m, size_t *size, struct error *err)
{
    const int fd = m->session.saved_fd;
    struct stat st;
    off_t end = -1;
    if (m->session.blocks.own)
        end = lseek(fd, 0, SEEK_CUR);
    else if (fstat(fd, &st) == 0)
        end = st.st_size;
    if (end < 0 || end > STREAM_MAX)
        return error_set(err, -EFBIG, "state of QEMU: more than %u bytes", STREAM_MAX);
    *size = (size_t)end;
    if (pread(fd, m->buffer, *size, 0) != end)
        return error_set(err, -EIO, "state of QEMU: it can't be read back");
    return stream_check(m->buffer, *size, m->session.blocks.own, err);
}

int cut_try(struct qemu_machine *m, struct error *err)
{
    const struct ram_blocks *blocks = &m->session.blocks;
    size_t size;
    if (!blocks->own)
        return 0;
    int rc = cut_ask(m, err);
    if (rc == 0)
        rc = cut_end(m, err);
    if (rc == -EIO)
        return error_set(err, -ENOTSUP, "QEMU can't give a state of this machine: %.300s",
                         err->text);
    if (rc == 0)
        rc = cut_read(m, &size, err);
    for (unsigned i = 0; rc == 0 && i < blocks->count; i++)
        if (!stream_has_block(m->buffer, size, blocks->names[i]))
            rc = error_set(err, -ENOTSUP,
                           "the machine has memory of its own that QEMU itself doesn't save (RAM "
                           "block %s): leave out the device it belongs to",
                           blocks->names[i]);
    return rc;
}
