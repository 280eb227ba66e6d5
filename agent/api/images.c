/* SPDX-License-Identifier: Apache-2.0 */
/* Images (contract, section 2.7): those in the node's pool. Buying, rating and importing are the control plane's. */
#include "agent/api/api.h"
#include "agent/images/set.h"
#include "base/id.h"
#include "base/str.h"

static const char *const sort_words[] = {"alias", "added_date", "price", "rating", NULL};
static const char *const order_words[] = {"desc", "asc", NULL};

static json_t *public_image(const struct image *i, const char *alias)
{
    char id[ID_OBJECT_LEN + 1];

    id_of_name("image", alias, id);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s?, s:I, s:i, s:o, s:i, s:i, s:n, s:b}",
                     "id", id, "alias", alias, "name", alias, "version", i->serial, "description", i->description,
                     "image_name", alias, "architecture", i->architecture, "os", i->os, "release", i->release, "serial",
                     i->serial, "variant", i->variant, "size", (json_int_t)i->archive_bytes, "price", 0, "added_date",
                     api_time(MAX(i->created_at, 1)), "average_rating", 0, "rating_count", 0, "icon_url", "prespawn",
                     0);
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

static bool fits_query(const struct api_call *call, const json_t *image)
{
    const char *search = http_query(call->req, "search");

    return is(call, "os", image) && is(call, "architecture", image) &&
           (found_in(image, "alias", search) || found_in(image, "description", search));
}

void images_public(struct api_call *call)
{
    const struct agent *a = call->agent;
    json_t **found = NULL;
    bool fits = true;
    size_t n = 0;
    struct err *e = zero_fits(call, "min_price", "max_price", &fits);

    if (!e)
        e = zero_fits(call, "min_rating", "max_rating", &fits);
    if (e) {
        reply_err(call->req, e);
        return;
    }
    for (size_t i = 0; fits && i < a->image_count; i++) {
        json_t *alias;
        size_t k;

        json_array_foreach(a->images[i]->aliases, k, alias)
        {
            json_t *image = public_image(a->images[i], json_string_value(alias));

            if (fits_query(call, image)) {
                found = mem_grow(found, n + 1, sizeof(*found));
                found[n++] = image;
            } else {
                json_decref(image);
            }
        }
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
    autojson names = image_names(call->agent);
    json_t *name;
    size_t k;

    json_array_foreach(names, k, name)
    {
        char id[ID_OBJECT_LEN + 1];

        id_of_name("image", json_string_value(name), id);
        if (str_eq(id, call->params[0]))
            return public_image(image_find_by_alias(call->agent, json_string_value(name)), json_string_value(name));
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
