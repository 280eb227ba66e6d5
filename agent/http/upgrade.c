/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MHD gives the socket away and keeps the connection in its books until it is told that it is over; the owner of an
 * upgrade gets a duplicate, so that the two need not end in order.
 */
#include <fcntl.h>

#include "agent/http/internal.h"
#include "base/mem.h"

struct http_upgrade {
    struct http_server *server;
    struct http_request *req;
    struct MHD_UpgradeResponseHandle *handle;
    void *owner;
    http_taken_fn *taken;
};

/* What the client sent behind its head would be lost, and no client of ours does that. */
static void on_upgraded(void *cls, struct MHD_Connection *conn, void *con_cls, const char *extra, size_t extra_len,
                        MHD_socket fd, struct MHD_UpgradeResponseHandle *handle)
{
    struct http_upgrade *u = cls;
    struct connection *c = http_connection_of(conn);

    (void)con_cls;
    (void)extra;
    (void)extra_len;
    u->req->upgrade = NULL;
    u->handle = handle;
    if (c)
        uv_timer_stop(&c->deadline);
    if (c && c->link)
        c->link->upgraded = true;
    u->taken(u->owner, u, fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

void http_upgrade(struct http_request *r, const char *protocol, void *owner, http_taken_fn *taken)
{
    struct http_upgrade *u;

    r->replied = true;
    if (!r->conn) {
        http_request_free(r);
        taken(owner, NULL, -1);
        return;
    }
    u = mem_new(struct http_upgrade);
    *u = (struct http_upgrade){.server = r->server, .req = r, .owner = owner, .taken = taken};
    r->upgrade = u;
    r->status = MHD_HTTP_SWITCHING_PROTOCOLS;
    r->response = MHD_create_response_for_upgrade(on_upgraded, u);
    if (!r->response)
        abort();
    (void)MHD_add_response_header(r->response, "Upgrade", protocol);
    http_send(r);
}

void http_upgrade_gone(struct http_upgrade *u)
{
    u->taken(u->owner, NULL, -1);
    free(u);
}

void http_upgrade_end(struct http_upgrade *u)
{
    (void)MHD_upgrade_action(u->handle, MHD_UPGRADE_ACTION_CLOSE);
    http_kick(u->server);
    free(u);
}
