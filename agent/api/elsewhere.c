/* SPDX-License-Identifier: Apache-2.0 */
/* Paths of the platform that a node does not serve: whoever asks learns that it asked the wrong server, not that the
 * thing does not exist. */
#include "agent/api/api.h"
#include "base/str.h"

#define API "/api/v1"

static const struct {
    const char *path; /* "{}" is any part; with all below it */
    const char *what;
} paths[] = {
    {API "/containers/{}/proxy", "Proxy permissions and domains"},
    {API "/projects/{}/proxy", "Proxy permissions and domains"},
    {API "/projects/{}/permissions", "Permissions"},
    {API "/proxy", "Proxy permissions and domains"},
    {API "/auth", "Accounts"},
    {API "/users", "Accounts"},
    {API "/realms", "Realms"},
    {API "/pools", "Pools"},
    {API "/vault", "The vault"},
    {API "/wallet", "Payment"},
    {API "/servers/available", "Servers to rent"},
    {API "/rentals", "Rentals of servers"},
    {API "/notifications", "Notifications"},
    {API "/activity", "The activity log"},
};

static bool begins_with(const char *path, const char *want)
{
    while (*want == '/' && *path == '/') {
        size_t want_len = strcspn(++want, "/"), len = strcspn(++path, "/");

        if (want[0] != '{' && (len != want_len || strncmp(want, path, len) != 0))
            return false;
        want += want_len;
        path += len;
    }
    return !*want;
}

struct err *api_elsewhere(const char *path)
{
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        if (begins_with(path, paths[i].path))
            return err_reason(
                err_new(ERR_ELSEWHERE, "%s: ask the control plane, a server does not keep that", paths[i].what),
                "CONTROL_PLANE_ONLY");
    return NULL;
}
