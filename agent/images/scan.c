/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include "agent/images/set.h"
#include "base/log.h"
#include "base/str.h"
#include "images/image.h"

struct scan {
    struct agent *agent;
    json_t *files; /* [{"file", "name", "alias", "mark"}]: what is new */
    size_t next;
    void *owner;
    void (*done)(void *owner);
};

static void on_recorded(void *owner, struct err *e)
{
    (void)owner;
    log_err(NULL, LOG_LEVEL_ERR, e, "an image is not recorded");
}

static bool is_there(const json_t *found, const char *fingerprint)
{
    json_t *entry;
    size_t k;

    json_array_foreach((json_t *)(uintptr_t)found, k, entry)
    {
        if (str_eq(json_string_value(json_object_get(entry, "fingerprint")), fingerprint) &&
            json_integer_value(json_object_get(entry, "bases")) > 0)
            return true;
    }
    return false;
}

static void on_removed(void *owner, struct err *e)
{
    (void)owner;
    log_err(NULL, LOG_LEVEL_WARNING, e,
            "an image whose removal was interrupted is not removed; the next start tries again");
}

/* No subvolume is deleted for lack of a row, and no row for lack of a subvolume. A subvolume without a row gets a row
 * without names; like every image without a name and a user it is pruned after images.keep_days. A row without a
 * subvolume stays, for a pool that comes back. */
static void agree(struct agent *a, const json_t *found)
{
    struct store_tx *tx = store_tx_new();
    json_t *entry;
    size_t k;

    json_array_foreach((json_t *)(uintptr_t)found, k, entry)
    {
        const char *fingerprint = json_string_value(json_object_get(entry, "fingerprint"));
        struct image *i = image_find(a, fingerprint);

        if (!i && json_integer_value(json_object_get(entry, "bases")) == 0)
            continue; /* copies of an image that was removed */
        if (!i) {
            const struct image_origin from = {.source = "recovered"};

            log_warning(NULL, "the image %.12s is in the pool and has no row: it gets one, without a name",
                        fingerprint);
            i = image_imported(a, tx, entry, &from);
        }
        i->bases = json_integer_value(json_object_get(entry, "bases"));
    }
    for (size_t n = a->image_count; n > 0; n--) {
        struct image *i = a->images[n - 1];

        i->missing = !is_there(found, i->fingerprint);
        if (i->removing)
            image_delete(a, i, NULL, on_removed);
        else if (i->missing)
            log_warning(NULL,
                        "the image %.12s is not in the pool: nothing can be made from it until it is imported again",
                        i->fingerprint);
    }
    agent_commit(a, tx, NULL, on_recorded);
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n > m && strcmp(s + n - m, end) == 0;
}

/* NAME.tar[.zst|.gz|.xz] or NAME.squashfs -> the image's canonical name; NULL when it is no archive. The caller frees
 * it. */
static char *image_of_file(const char *name)
{
    static const char *const ends[] = {".tar", ".tar.zst", ".tar.gz", ".tar.xz", ".squashfs"};

    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        if (ends_with(name, ends[i])) {
            autofree char *stem = strndup(name, strlen(name) - strlen(ends[i]));

            return image_name_canonical(stem);
        }
    }
    return NULL;
}

static bool is_known(const struct agent *a, const char *file, const char *mark)
{
    for (size_t k = 0; k < a->image_count; k++)
        if (!a->images[k]->missing && str_eq(a->images[k]->origin, file) && str_eq(a->images[k]->origin_mark, mark))
            return true;
    return false;
}

static void look_at(struct scan *s, const char *dir)
{
    DIR *d = opendir(dir);
    const struct dirent *entry;

    while (d && (entry = readdir(d))) {
        autofree char *alias = image_of_file(entry->d_name), *file = str_fmt("%s/%s", dir, entry->d_name);
        autofree char *mark = NULL;
        struct stat st;

        if (!alias || stat(file, &st) < 0)
            continue;
        mark = str_fmt("%lld %lld.%09ld", (long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
        if (!is_known(s->agent, file, mark))
            json_array_append_new(s->files, json_pack("{s:s, s:s, s:s}", "file", file, "alias", alias, "mark", mark));
    }
    if (d)
        closedir(d);
}

static void next(struct scan *s);

static void on_imported(void *owner, struct err *e, json_t *result)
{
    struct scan *s = owner;
    const json_t *entry = json_array_get(s->files, s->next++);
    const char *file = json_string_value(json_object_get(entry, "file"));

    if (e) {
        log_err(NULL, LOG_LEVEL_ERR, err_wrap(e, "%s", file), "cannot import, ignoring the file");
    } else {
        autojson aliases = json_pack("[O]", json_object_get(entry, "alias"));
        const struct image_origin from = {.source = "directory",
                                          .origin = file,
                                          .origin_mark = json_string_value(json_object_get(entry, "mark")),
                                          .aliases = aliases};
        struct store_tx *tx = store_tx_new();

        image_imported(s->agent, tx, result, &from);
        agent_commit(s->agent, tx, NULL, on_recorded);
        log_notice(NULL, "imported %s", file);
    }
    json_decref(result);
    next(s);
}

static void next(struct scan *s)
{
    const json_t *entry = json_array_get(s->files, s->next);
    struct job_image_import args = {0};

    if (!entry) {
        s->done(s->owner);
        json_decref(s->files);
        free(s);
        return;
    }
    args.file = (char *)(uintptr_t)json_string_value(json_object_get(entry, "file"));
    sd_notifyf(0, "STATUS=importing %s\nEXTEND_TIMEOUT_USEC=600000000", args.file);
    agent_job(s->agent, JOB_IMAGE_IMPORT, 0, &args, 0, s, on_imported);
}

void images_scan(struct agent *a, const json_t *inventory, void *owner, void (*done)(void *owner))
{
    struct scan *s = mem_new(struct scan);

    *s = (struct scan){.agent = a, .files = json_array(), .owner = owner, .done = done};
    agree(a, json_object_get(inventory, "images"));
    look_at(s, a->config->images_dir);
    next(s);
}
