/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/http/link.h"

#include <sys/ioctl.h>

#include "agent/http/internal.h"

void http_link_reply(struct http_link *link, bool last)
{
    link->last = last;
    link->replying = true;
}

/* What libmicrohttpd has written and the pump has not taken still belongs to the reply. */
void http_link_replied(struct http_link *link)
{
    int waiting = 0;

    if (!link->replying)
        return;
    if (link->fd >= 0 && ioctl(link->fd, FIONREAD, &waiting) == 0)
        link->ours = link->taken + (uint64_t)waiting;
    link->replying = false;
    link->settled = link->given;
}

uint64_t http_link_ours(const struct http_link *link)
{
    if (link->replying || link->upgraded)
        return UINT64_MAX;
    return link->ours > link->taken ? link->ours - link->taken : 0;
}

bool http_link_asked(const struct http_link *link)
{
    return link->given > link->settled;
}

void http_link_gone(struct http_link *link)
{
    if (link->conn)
        link->conn->link = NULL;
    link->conn = NULL;
    link->fd = -1;
}
