/* SPDX-License-Identifier: Apache-2.0 */
/* metadata.yaml: read event by event and only as far as it is needed. No anchors, so nothing can refer to itself. */
#include <string.h>
#include <yaml.h>

#include "base/json_table.h"
#include "base/str.h"
#include "images/image.h"

enum { DEPTH_MAX = 8, EVENTS_MAX = 8192, TEXT_MAX = 512 };

struct reading {
    yaml_parser_t *parser;
    int events;
};

/* The caller deletes *ret. */
static struct err *next(struct reading *r, yaml_event_t *ret)
{
    if (++r->events > EVENTS_MAX)
        return err_new(ERR_TOO_LARGE, "metadata.yaml has too many parts");
    if (!yaml_parser_parse(r->parser, ret))
        return err_new(ERR_INVALID, "metadata.yaml: line %zu: %s", r->parser->problem_mark.line + 1,
                       r->parser->problem ? r->parser->problem : "no YAML");
    if (ret->type == YAML_ALIAS_EVENT) {
        yaml_event_delete(ret);
        return err_new(ERR_INVALID, "metadata.yaml has an alias");
    }
    return NULL;
}

/* What follows on an event that began a list or object, to its end. */
static struct err *skip(struct reading *r, yaml_event_type_t begun)
{
    int depth = begun == YAML_MAPPING_START_EVENT || begun == YAML_SEQUENCE_START_EVENT;

    while (depth > 0) {
        yaml_event_t event;
        struct err *e = next(r, &event);

        if (e)
            return e;
        if (event.type == YAML_MAPPING_START_EVENT || event.type == YAML_SEQUENCE_START_EVENT)
            depth++;
        else if (event.type == YAML_MAPPING_END_EVENT || event.type == YAML_SEQUENCE_END_EVENT)
            depth--;
        yaml_event_delete(&event);
        if (depth > DEPTH_MAX)
            return err_new(ERR_INVALID, "metadata.yaml is nested too deep");
    }
    return NULL;
}

static char *scalar(const yaml_event_t *event)
{
    size_t len = event->data.scalar.length;
    const char *text = (const char *)event->data.scalar.value;

    return len <= TEXT_MAX && strlen(text) == len && !str_has_control(text) ? str_dup(text) : NULL;
}

static bool wanted(const char *key, bool top)
{
    static const char *const keys[] = {"os", "release", "variant", "serial", "description", "name"};

    if (top)
        return str_eq(key, "architecture") || str_eq(key, "creation_date");
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (str_eq(key, keys[i]))
            return true;
    return false;
}

static struct err *mapping(struct reading *r, json_t *out, bool top);

static struct err *value(struct reading *r, json_t *out, const char *key, bool top)
{
    autofree char *text = NULL;
    yaml_event_t event;
    yaml_event_type_t type;
    struct err *e = next(r, &event);

    if (e)
        return e;
    type = event.type;
    if (type == YAML_SCALAR_EVENT)
        text = scalar(&event);
    yaml_event_delete(&event);
    if (top && str_eq(key, "properties") && type == YAML_MAPPING_START_EVENT)
        return mapping(r, out, false);
    if (type == YAML_SCALAR_EVENT && wanted(key, top)) {
        json_t *j = text ? json_string(text) : NULL;

        return j && json_object_set_new(out, key, j) == 0
                   ? NULL
                   : err_new(ERR_INVALID, "metadata.yaml: '%s' is no short text", key);
    }
    return skip(r, type);
}

static struct err *mapping(struct reading *r, json_t *out, bool top)
{
    for (;;) {
        autofree char *key = NULL;
        yaml_event_t event;
        yaml_event_type_t type;
        struct err *e = next(r, &event);

        if (e)
            return e;
        type = event.type;
        if (type == YAML_SCALAR_EVENT)
            key = scalar(&event);
        yaml_event_delete(&event);
        if (type == YAML_MAPPING_END_EVENT)
            return NULL;
        if (!key)
            return err_new(ERR_INVALID, "metadata.yaml has a key that is no short text");
        e = value(r, out, key, top);
        if (e)
            return e;
    }
}

/* Up to the object that the document is. */
static struct err *document(struct reading *r, json_t *out)
{
    for (;;) {
        yaml_event_t event;
        yaml_event_type_t type;
        struct err *e = next(r, &event);

        if (e)
            return e;
        type = event.type;
        yaml_event_delete(&event);
        if (type == YAML_MAPPING_START_EVENT)
            return mapping(r, out, true);
        if (type != YAML_STREAM_START_EVENT && type != YAML_DOCUMENT_START_EVENT)
            return err_new(ERR_INVALID, "metadata.yaml is no object");
    }
}

struct err *image_metadata_parse(const char *text, size_t len, json_t **ret)
{
    autojson out = json_object();
    yaml_parser_t parser;
    struct reading r = {.parser = &parser};
    const char *architecture;
    struct err *e;

    if (len > IMAGE_METADATA_MAX)
        return err_new(ERR_TOO_LARGE, "metadata.yaml has more than %d bytes", IMAGE_METADATA_MAX);
    if (!yaml_parser_initialize(&parser))
        return err_new(ERR_INTERNAL, "out of memory");
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    e = document(&r, out);
    yaml_parser_delete(&parser);
    architecture = json_string_value(json_object_get(out, "architecture"));
    if (!e && architecture && !str_eq(image_debian_processor(architecture), image_architecture()))
        e = err_new(ERR_INVALID, "the image is for the processor '%s', this host has %s", architecture,
                    image_architecture());
    if (!e)
        *ret = steal(&out);
    return e;
}
