/* SPDX-License-Identifier: Apache-2.0 */
/* noded-relay: settings from fd 3, then rights go, then the loop. Started by noded; there are no options. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/frame.h"
#include "base/log.h"
#include "relay/relay.h"

enum { CONTROL_FD = 3 };

static struct err *begin(struct relay *r)
{
    autojson settings = NULL;
    struct err *e = frame_receive(CONTROL_FD, &settings);

    if (!e)
        e = json_table_load(&relay_settings_table, settings, &r->settings, NULL);
    if (!e)
        e = setup_privileged(r);
    if (!e)
        e = setup_drop(r, false);
    if (!e && uv_loop_init(&r->loop) != 0)
        e = err_new(ERR_INTERNAL, "no loop");
    if (!e) {
        probe_start(r);
        e = control_start(r, CONTROL_FD);
    }
    if (!e)
        e = tunnels_start(r);
    if (!e)
        e = dns_start(r);
    return e ? e : udp_start(r);
}

static void report(const struct err *e)
{
    autojson j = json_pack("{s:o}", "error", err_to_json(e));

    err_ignore(frame_send(CONTROL_FD, j));
}

int main(void)
{
    static struct relay r = {
        .tcp_fd = {-1, -1}, .udp_fd = {-1, -1}, .control_fd = -1, .datagram_fd = {-1, -1}, .broker_fd = -1};
    struct err *e;

    signal(SIGPIPE, SIG_IGN);
    log_open("noded-relay", LOG_LEVEL_INFO, false);
    e = begin(&r);
    if (e) {
        report(e);
        log_err(NULL, LOG_LEVEL_ERR, e, "a relay cannot start");
        return 1;
    }
    uv_run(&r.loop, UV_RUN_DEFAULT);
    return 1; /* the loop has no end of its own */
}
