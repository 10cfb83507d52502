/* What root may do and this daemon does not need is given up, whoever started it, before a thread
 * exists: capabilities belong to threads, and each inherits its maker's. So what is kept is what
 * the start needs and what comes later, in a promotion for example; the unit of the package keeps
 * the same (packaging/kemarid@.service). */
#include <cap-ng.h>
#include <errno.h>

#include "app/confine.h"
#include "base/types.h"

static const unsigned kept[] = {
    CAP_NET_ADMIN,    /* attaching to a tap, and its offloads; loading of kernel TLS */
    CAP_NET_RAW,      /* fence agents that ping */
    CAP_SYS_NICE,     /* real-time and raised priority of threads, also of a promoted standby's */
    CAP_IPC_LOCK,     /* locked memory of the heartbeat, huge pages, memory registered for RDMA */
    CAP_DAC_OVERRIDE, /* images, keys and consoles that belong to another user */
    CAP_CHOWN,        /* the control socket's group, also when the socket is made anew */
    CAP_FOWNER,       /* replacing files of another user in a sticky directory */
    CAP_KILL,         /* ending a fence agent that changed its user */
};

static bool is_kept(unsigned capability)
{
    for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
        if (kept[i] == capability)
            return true;
    return false;
}

int confine_capabilities(struct error *err)
{
    const unsigned everywhere =
        CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_INHERITABLE | CAPNG_BOUNDING_SET;
    if (capng_get_caps_process() < 0)
        return error_set(err, -EIO, "the capabilities of this process can't be read");
    /* The bounding set is for what is executed; who may not change it can't be root there. */
    const bool bounds = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP);
    for (unsigned i = 0; i <= CAP_LAST_CAP; i++)
        if (!is_kept(i))
            capng_update(CAPNG_DROP, (capng_type_t)everywhere, i);
    const int rc = capng_apply(bounds ? CAPNG_SELECT_BOTH : CAPNG_SELECT_CAPS);
    return rc == 0 ? 0
                   : error_set(err, -EPERM, "capabilities can't be given up (libcap-ng: %d)", rc);
}
