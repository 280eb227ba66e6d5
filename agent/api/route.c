/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/api/route.h"

#include <stdio.h>

#include "agent/api/api.h"
#include "base/str.h"

enum { PARAMS_MAX = 3 };

static bool is_choice(const struct route *r, const char *word)
{
    if (!r->choices[0])
        return true;
    for (size_t i = 0; i < ARRAY_LEN(r->choices) && r->choices[i]; i++)
        if (str_eq(r->choices[i], word))
            return true;
    return false;
}

static void clear(char **params)
{
    for (int i = 0; i < PARAMS_MAX; i++) {
        free(params[i]);
        params[i] = NULL;
    }
}

/* A part of the path has its slashes and percent signs still escaped: see http_path. Slashes stay so unless the row
 * takes them. */
static char *parameter(const char *part, size_t len, bool slashes)
{
    char *text = strndup(part, len), *out = text;

    for (const char *in = text; *in; in++) {
        bool slash = slashes && strncasecmp(in, "%2f", 3) == 0, percent = strncmp(in, "%25", 3) == 0;

        *out++ = slash ? '/' : percent ? '%' : *in;
        in += slash || percent ? 2 : 0;
    }
    *out = '\0';
    return text;
}

static bool match(const struct route *r, const char *path, char **params)
{
    const char *want = r->path;
    int n = 0;

    clear(params);
    while (*want == '/' && *path == '/') {
        size_t want_len = strcspn(++want, "/"), len = strcspn(++path, "/");

        if (want[0] == '{') {
            if (len == 0)
                return false;
            params[n++] = parameter(path, len, r->slashes);
        } else if (len != want_len || strncmp(want, path, len) != 0) {
            return false;
        }
        want += want_len;
        path += len;
        if (!*want && strcmp(path, "/") == 0)
            path++;
    }
    return !*want && !*path && is_choice(r, n ? params[n - 1] : NULL);
}

static const char *const verb_words[] = {"GET", "POST", "PUT", "PATCH", "DELETE"};

const char *route_verbs(int verbs, const char *separator, char text[ROUTE_VERBS_SIZE])
{
    size_t len = 0;

    text[0] = '\0';
    for (int i = 0; i < (int)ARRAY_LEN(verb_words); i++)
        if (verbs & (1 << i))
            len += (size_t)snprintf(text + len, ROUTE_VERBS_SIZE - len, "%s%s", len ? separator : "", verb_words[i]);
    return text;
}

bool route_has_verb(int verb, const char *word)
{
    for (int i = 0; i < (int)ARRAY_LEN(verb_words); i++)
        if (verb & (1 << i) && str_eq(verb_words[i], word))
            return true;
    return false;
}

static struct err *wrong_verb(int allowed)
{
    struct err *e = err_new(ERR_METHOD, "This path does not take that method");
    char text[ROUTE_VERBS_SIZE];

    route_verbs(allowed, ", ", text);
    if (allowed & GET)
        e->field = str_fmt("%s, HEAD", text);
    else
        str_set(&e->field, text);
    return e;
}

struct err *route_find(const struct route *routes, size_t count, int verb, const char *path, char **params,
                       const struct route **ret)
{
    int allowed = 0;

    for (size_t i = 0; i < count; i++) {
        if (!match(&routes[i], path, params) || (routes[i].fallback && (allowed || !(routes[i].verbs & verb))))
            continue;
        if (routes[i].verbs & verb) {
            *ret = &routes[i];
            return NULL;
        }
        allowed |= routes[i].verbs;
    }
    if (allowed)
        return wrong_verb(allowed);
    return err_reason(err_new(ERR_NOT_FOUND, "There is no such path"), "RESOURCE_NOT_FOUND");
}
