/* SPDX-License-Identifier: Apache-2.0 */
/* Images (contract, section 2.7): those in the node's pool. Buying, rating and importing are the control plane's. */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>

#include "agent/api.h"
#include "base/id.h"
#include "base/str.h"
#include "images/image.h"

static const char *const sort_words[] = {"alias", "added_date", "price", "rating", NULL};
static const char *const order_words[] = {"desc", "asc", NULL};

/* The distribution's word for the processor. */
static const char *architecture(void)
{
    static struct utsname host;

    (void)uname(&host);
    if (strcmp(host.machine, "x86_64") == 0)
        return "amd64";
    return strcmp(host.machine, "aarch64") == 0 ? "arm64" : host.machine;
}

static int64_t size_of_archive(const struct agent *a, const char *file)
{
    static const char *const ends[] = {"tar.zst", "tar.xz", "tar.gz", "tar"};
    struct stat st;

    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        autofree char *path = str_fmt("%s/%s.%s", a->config->images_dir, file, ends[i]);

        if (stat(path, &st) == 0)
            return st.st_size;
    }
    return 0;
}

/* When it came into the pool, in ms. */
static int64_t added_at(const struct agent *a, const char *file)
{
    autofree char *path = str_fmt("%s/images/%s", a->config->pool, file);
    struct statx stx;

    if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_BTIME, &stx) < 0 || !(stx.stx_mask & STATX_BTIME))
        return 0;
    return stx.stx_btime.tv_sec * 1000 + stx.stx_btime.tv_nsec / 1000000;
}

static json_t *image_to_json(const struct agent *a, const char *name)
{
    autofree char *file = image_file_name(name), *os = strndup(name, strcspn(name, "/")), *description = NULL;
    const char *release = strchr(name, '/') ? strchr(name, '/') + 1 : "";
    int64_t added = added_at(a, file);
    time_t seconds = (time_t)(added / 1000);
    char id[ID_OBJECT_LEN + 1], serial[16];
    struct tm tm;

    id_of_name("image", name, id);
    gmtime_r(&seconds, &tm);
    strftime(serial, sizeof(serial), "%Y%m%d", &tm);
    description = str_fmt("%s %s", os, release);
    if (*description >= 'a' && *description <= 'z')
        *description = (char)(*description - 'a' + 'A');
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:n, s:I, s:i, s:o, s:i, s:i, s:n, s:b}", "id", id,
                     "alias", name, "description", description, "image_name", name, "architecture", architecture(),
                     "os", os, "release", release, "serial", serial, "variant", "size",
                     (json_int_t)size_of_archive(a, file), "price", 0, "added_date", api_time(MAX(added, 1)),
                     "average_rating", 0, "rating_count", 0, "icon_url", "prespawn", 0);
}

/* Whether 0 lies between the two parameters: images of a node cost nothing and are rated by nobody. */
static struct err *zero_fits(const struct api_call *call, const char *min_name, const char *max_name, bool *fits)
{
    const char *const names[] = {min_name, max_name};

    for (int i = 0; i < 2; i++) {
        const char *text = http_query(call->req, names[i]);
        char *end = NULL;
        double n = text ? strtod(text, &end) : 0;

        if (text && (end == text || *end || !(n >= 0 && n <= 1e12)))
            return err_field(names[i], "must be a number from 0 on");
        if (i == 0 && n > 0)
            *fits = false;
    }
    return NULL;
}

static bool is(const struct api_call *call, const char *name, const json_t *image)
{
    const char *wanted = http_query(call->req, name);

    return !wanted || strcasecmp(wanted, json_string_value(json_object_get(image, name))) == 0;
}

static bool found_in(const json_t *image, const char *member, const char *wanted)
{
    return !wanted || strcasestr(json_string_value(json_object_get(image, member)), wanted) != NULL;
}

struct sort {
    int by, order;
};

static int compare(const void *x, const void *y, void *arg)
{
    const json_t *const *ix = x, *const *iy = y;
    const struct sort *s = arg;
    const char *member = s->by == 1 ? "added_date" : "alias"; /* prices and ratings are all the same */
    int d = strcmp(json_string_value(json_object_get(*ix, member)), json_string_value(json_object_get(*iy, member)));

    return s->order == 0 ? -d : d;
}

/* Answers with one page of the images; frees the array and its members. */
static void reply_images(struct api_call *call, json_t **found, size_t n)
{
    int64_t page = 1, limit = 20;
    struct sort sort = {0};
    json_t *list = json_array();
    struct err *e = query_int(call, "page", 1, INT32_MAX, 1, &page);

    if (!e)
        e = query_int(call, "limit", 1, 100, 20, &limit);
    if (!e)
        e = query_choice(call, "sort_by", sort_words, &sort.by);
    if (!e)
        e = query_choice(call, "sort_order", order_words, &sort.order);
    if (!e && n > 0)
        qsort_r(found, n, sizeof(json_t *), compare, &sort);
    for (size_t i = 0; i < n; i++) {
        if ((int64_t)i >= (page - 1) * limit && (int64_t)i < page * limit)
            json_array_append(list, found[i]);
        json_decref(found[i]);
    }
    free(found);
    if (e) {
        json_decref(list);
        reply_err(call->req, e);
        return;
    }
    reply_ok(call->req, 200, "Images retrieved successfully",
             json_pack("{s:o, s:o}", "images", list, "pagination", api_pagination((int64_t)n, page, limit)));
}

void images_public(struct api_call *call)
{
    const json_t *names = call->agent->images;
    json_t **found;
    bool fits = true;
    size_t n = 0;
    struct err *e = zero_fits(call, "min_price", "max_price", &fits);

    if (!e)
        e = zero_fits(call, "min_rating", "max_rating", &fits);
    if (e) {
        reply_err(call->req, e);
        return;
    }
    found = mem_new_array(json_t *, json_array_size(names) + 1);
    for (size_t i = 0; fits && i < json_array_size(names); i++) {
        json_t *image = image_to_json(call->agent, json_string_value(json_array_get(names, i)));
        const char *search = http_query(call->req, "search");

        if (is(call, "os", image) && is(call, "architecture", image) &&
            (found_in(image, "alias", search) || found_in(image, "description", search)))
            found[n++] = image;
        else
            json_decref(image);
    }
    reply_images(call, found, n);
}

/* Nobody's: a node knows no users. */
void images_user(struct api_call *call)
{
    reply_images(call, NULL, 0);
}

static json_t *find_image(const struct api_call *call)
{
    for (size_t i = 0; i < json_array_size(call->agent->images); i++) {
        const char *name = json_string_value(json_array_get(call->agent->images, i));
        char id[ID_OBJECT_LEN + 1];

        id_of_name("image", name, id);
        if (str_eq(id, call->params[0]))
            return image_to_json(call->agent, name);
    }
    return NULL;
}

void image_get(struct api_call *call)
{
    json_t *image = find_image(call);

    if (image)
        reply_ok(call->req, 200, "Image retrieved successfully", image);
    else
        reply_err(call->req, err_reason(err_new(ERR_NOT_FOUND, "Image not found"), "RESOURCE_NOT_FOUND"));
}

void image_icon(struct api_call *call)
{
    autojson image = find_image(call);

    reply_err(call->req, err_reason(err_new(ERR_NOT_FOUND, image ? "The image has no icon" : "Image not found"),
                                    "RESOURCE_NOT_FOUND"));
}

void image_market(struct api_call *call)
{
    reply_err(call->req, err_reason(err_new(ERR_UNAVAILABLE, "Images are imported, bought and rated at the control "
                                                             "plane; this server has none of that"),
                                    "MARKETPLACE_NOT_CONFIGURED"));
}
