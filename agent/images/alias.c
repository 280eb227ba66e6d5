/* SPDX-License-Identifier: Apache-2.0 */
/* Names of images: a name belongs to one image at a time, and another image that gets the name takes it away. */
#include "agent/images/set.h"
#include "base/clock.h"
#include "base/str.h"
#include "images/image.h"

struct image *image_find_by_alias(const struct agent *a, const char *canonical)
{
    for (size_t k = 0; k < a->image_count; k++)
        if (!a->images[k]->busy && !a->images[k]->missing && json_has_string(a->images[k]->aliases, canonical))
            return a->images[k];
    return NULL;
}

json_t *image_names(const struct agent *a)
{
    json_t *names = json_array();

    for (size_t k = 0; k < a->image_count; k++)
        if (!a->images[k]->busy && !a->images[k]->missing)
            json_array_extend(names, a->images[k]->aliases);
    return names;
}

static struct err *add_alias(const char *field, const char *text, json_t *aliases)
{
    autofree char *canonical = text ? image_name_canonical(text) : NULL;

    if (!canonical)
        return err_field(field, "must be names such as debian/13");
    json_array_append_new(aliases, json_string(canonical));
    return NULL;
}

struct err *image_aliases_load(const char *field, const json_t *texts, json_t **ret)
{
    autojson aliases = json_array();
    const json_t *text;
    size_t k;

    json_array_foreach((json_t *)(uintptr_t)texts, k, text)
    {
        struct err *e = add_alias(field, json_string_value(text), aliases);

        if (e)
            return e;
    }
    *ret = steal(&aliases);
    return NULL;
}

struct err *image_aliases_split(const char *field, const char *text, json_t **ret)
{
    autojson aliases = json_array();

    while (text && *text) {
        size_t len = strcspn(text, ",");
        autofree char *one = strndup(text, len);
        struct err *e = add_alias(field, one, aliases);

        if (e)
            return e;
        text += len + strspn(text + len, ",");
    }
    *ret = steal(&aliases);
    return NULL;
}

/* The name is free afterwards. */
static void release_alias(struct agent *a, struct store_tx *tx, const char *canonical)
{
    struct image *i = image_find_by_alias(a, canonical);
    json_t *alias;
    size_t k;

    if (!i)
        return;
    json_array_foreach(i->aliases, k, alias)
    {
        if (str_eq(json_string_value(alias), canonical)) {
            json_array_remove(i->aliases, k);
            break;
        }
    }
    i->last_used_at = clock_wall_ms(); /* its time begins now */
    record_put_image(tx, i);
}

void image_give_aliases(struct agent *a, struct store_tx *tx, struct image *i, const json_t *aliases)
{
    json_t *alias;
    size_t k;

    json_array_foreach((json_t *)(uintptr_t)aliases, k, alias)
    {
        if (json_has_string(i->aliases, json_string_value(alias)))
            continue;
        release_alias(a, tx, json_string_value(alias));
        json_array_append(i->aliases, alias);
    }
}

void image_set_aliases(struct agent *a, struct store_tx *tx, struct image *i, const json_t *aliases)
{
    json_array_clear(i->aliases);
    image_give_aliases(a, tx, i, aliases);
    record_put_image(tx, i);
}

static void remember(json_t *before, const struct image *i)
{
    json_object_set_new(before, i->fingerprint,
                        json_pack("{s:o, s:s}", "aliases", json_copy(i->aliases), "description", i->description));
}

json_t *images_remember(const struct agent *a, const struct image *i, const json_t *aliases)
{
    json_t *before = json_object(), *alias;
    size_t k;

    remember(before, i);
    json_array_foreach((json_t *)(uintptr_t)aliases, k, alias)
    {
        const struct image *other = image_find_by_alias(a, json_string_value(alias));

        if (other)
            remember(before, other);
    }
    return before;
}

void images_recall(const struct agent *a, const json_t *before)
{
    const char *fingerprint;
    json_t *was;

    json_object_foreach((json_t *)(uintptr_t)before, fingerprint, was)
    {
        struct image *i = image_find(a, fingerprint);

        if (!i)
            continue;
        json_array_clear(i->aliases);
        json_array_extend(i->aliases, json_object_get(was, "aliases"));
        str_set(&i->description, json_string_value(json_object_get(was, "description")));
    }
}
