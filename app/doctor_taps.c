/* The network cards' tap interfaces. */
#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "app/doctor_checks.h"
#include "base/fd.h"
#include "vmm/tap.h"

static bool is_up(const char *name)
{
    struct ifreq request = {0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    const bool up = fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &request) == 0 && request.ifr_flags & IFF_UP;
    fd_close(&fd);
    return up;
}

static bool has_bridge(const char *name)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "/sys/class/net/%s/master", name);
    return access(path, F_OK) == 0;
}

static enum doctor_reason refusal(const struct doctor *doctor, int rc)
{
    if (rc == -EBUSY)
        return doctor->daemon_runs ? DOCTOR_DAEMON_RUNS : DOCTOR_TAP_BUSY;
    return rc == -ENODEV ? DOCTOR_TAP_MISSING : DOCTOR_TAP_REFUSED;
}

static void check_tap(const struct doctor *doctor, unsigned index)
{
    const char *name = doctor->config->nets[index].tap;
    struct error err = {0};
    char subject[DOCTOR_SUBJECT_MAX];
    snprintf(subject, sizeof(subject), "net.%u", index);
    int fd = tap_open(name, &err);
    if (fd < 0) {
        doctor_say(doctor->report, "tap", subject, refusal(doctor, fd), "%s", err.text);
        return;
    }
    fd_close(&fd);
    if (!is_up(name))
        doctor_say(doctor->report, "tap", subject, DOCTOR_TAP_DOWN, "tap %s is not up", name);
    else if (!has_bridge(name))
        doctor_say(doctor->report, "tap", subject, DOCTOR_TAP_NO_BRIDGE, "tap %s is in no bridge",
                   name);
    else
        doctor_say(doctor->report, "tap", subject, DOCTOR_FINE,
                   "tap %s is up, in a bridge, and can be opened", name);
}

void doctor_check_taps(const struct doctor *doctor)
{
    for (unsigned i = 0; i < doctor->config->net_count; i++)
        check_tap(doctor, i);
}
