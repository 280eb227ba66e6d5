/* SPDX-License-Identifier: Apache-2.0 */
/* A kit's manifest: what is taken has no path that leads out, no port twice, and no drop-in with a line of its own. */
#include "base/str.h"
#include "provisioning/bundle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_paths(const struct manifest *m)
{
    const json_t *path;
    size_t i;

    json_array_foreach(m->directories, i, path)
    {
        const char *text = json_string_value(path);

        if (!text || text[0] == '/' || str_eq(text, "..") || strncmp(text, "../", 3) == 0 || strstr(text, "/../"))
            abort();
    }
    if (strchr(m->name, '/') || strchr(m->version, '/') || strstr(m->version, "/.."))
        abort();
}

static void check_dropin(const char *text)
{
    static const char *const lines[] = {
        "# What the kit",      "[Unit]\n", "After=", "[Service]\n", "Environment=\"", "CapabilityBoundingSet=",
        "AmbientCapabilities="};

    for (const char *line = text; line && *line; line = strchr(line, '\n') + 1) {
        bool known = false;

        for (size_t i = 0; i < ARRAY_LEN(lines); i++)
            known = known || strncmp(line, lines[i], strlen(lines[i])) == 0;
        if (!known || !strchr(line, '\n'))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    autojson j = NULL;
    struct manifest m = {0};
    const json_t *service;
    size_t i;
    struct err *e = json_parse((const char *)data, len, "manifest", &j);

    if (!e)
        e = manifest_load(j, &m);
    if (e) {
        err_free(e);
        return 0;
    }
    check_paths(&m);
    json_array_foreach(m.services, i, service)
    {
        struct manifest_service s = {0};
        autofree char *text = NULL;

        if (manifest_service_load(service, &m, &s))
            abort();
        text = manifest_render_dropin(&s);
        check_dropin(text);
        json_table_clear(&manifest_service_table, &s);
    }
    json_table_clear(&manifest_table, &m);
    return 0;
}
