/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/transfer/peer.h"

#include "base/fd.h"
#include "base/str.h"
#include "transfer/link.h"

struct err *peer_connect(const struct job *job, const json_t *peer, int *ret_fd)
{
    autofree char *empty = str_fmt("%s/empty", job->target.run_dir);
    struct job_peer p = {0};
    struct err *e = json_table_load(&job_peer_table, peer, &p, NULL);
    const struct link_settings s = {.host = p.host,
                                    .port = p.port,
                                    .certificate = p.certificate,
                                    .key = p.key,
                                    .ca = p.ca,
                                    .crl = p.crl,
                                    .empty_dir = empty};

    if (!e)
        e = link_open(&s, ret_fd);
    json_table_clear(&job_peer_table, &p);
    return e;
}

struct err *job_do_peer_call(const struct job *job, void *args, json_t **ret)
{
    const struct job_peer_call *a = args;
    autojson body = NULL;
    autofd int fd = -1;
    int status = 0;
    struct err *e = peer_connect(job, a->peer, &fd);

    if (!e)
        e = link_request(fd, a->method, a->path, a->body, false, a->timeout_s, &status, &body);
    if (!e)
        *ret = json_pack("{s:i, s:O?}", "status", status, "body", body);
    return e;
}
