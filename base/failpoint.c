/* SPDX-License-Identifier: Apache-2.0 */
#include "base/failpoint.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

static const char *armed;

void failpoint_init(void)
{
    armed = getenv("NODED_FAILPOINT");
}

static void wait_ms(long ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    nanosleep(&ts, NULL);
}

struct err *failpoint(const char *name)
{
    size_t len = strlen(name);

    for (const char *p = armed; p && *p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
        if (strncmp(p, name, len) != 0 || p[len] != '=')
            continue;
        p += len + 1;
        if (strncmp(p, "kill", 4) == 0)
            kill(getpid(), SIGKILL);
        else if (strncmp(p, "sleep:", 6) == 0)
            wait_ms(strtol(p + 6, NULL, 10));
        else if (strncmp(p, "error", 5) == 0)
            return err_new(ERR_INTERNAL, "failpoint '%s'", name);
    }
    return NULL;
}
