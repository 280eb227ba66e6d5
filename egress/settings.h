/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interface between noded and noded-relay: frames (base/frame.h) on a stream.
 *
 * The stream that noded gives a relay as fd 3 begins with the settings, as a JSON object. Every control stream, this
 * one and those that are made to the relay's socket later, then carries
 *   from the relay: {"hello": {"generation", "pid"}} first, or {"error": {...}} when it could not begin;
 *                   {"status": {"reachable", "problem": text|null, "checked_at": ms}} when it changes, and now and then
 *   to the relay:   {"quit": true}: it ends at once; {"probe": true}: it tries the proxy now
 */
#pragma once

#include "base/json_table.h"
#include "egress/proxy_url.h"

struct relay_settings {
    char *container;  /* its id, for logs */
    char *generation; /* of the configuration: another one needs another relay */
    int kind;         /* enum proxy_kind */
    char *host, *username, *password;
    int64_t port;
    char *ca_file;       /* NULL: the system's */
    json_t *dns_servers; /* 1..4 addresses */
    json_t *forbidden;   /* networks that the proxy must not be in, "10.96.0.0/16" */
    /* Listening addresses, the port for TCP (that for UDP is DNS's), and who may connect: the container.
     * listen6 and client6: NULL when the host has no IPv6. */
    char *listen4, *listen6, *client4, *client6;
    int64_t listen_port;
    char *socket;               /* path of the control socket */
    char *cgroup, *cgroup_name; /* as in base/cgroup.h */
    int64_t uid, gid;           /* what it becomes */
};
extern const struct json_table relay_settings_table;
