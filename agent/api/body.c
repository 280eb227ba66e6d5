/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/api/body.h"

#include "base/json_table.h"

struct parsing {
    struct agent *agent;
    struct http_request *req;
    char *text;
    size_t len;
    json_t *body;
    api_parsed_fn *done;
};

/* Members and elements cost forty times their text in memory, and time when they go. */
static bool has_too_many_values(const char *text, size_t len)
{
    size_t values = 1;
    bool inside = false;

    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (c == '"')
            inside = !inside;
        else if (inside)
            i += c == '\\';
        else
            values += c == ',' || c == '[' || c == '{';
    }
    return values > API_BODY_VALUES;
}

struct err *api_body_parse(const char *text, size_t len, json_t **ret)
{
    struct err *e;

    if (has_too_many_values(text, len))
        return err_field("body", "has more than %d values", API_BODY_VALUES);
    e = json_parse(text, len, "body", ret);
    if (!e && json_is_null(*ret))
        *ret = NULL;
    if (e || !*ret || json_is_object(*ret))
        return e;
    json_decref(*ret);
    *ret = NULL;
    return err_field("body", "must be a JSON object");
}

static struct err *parse(void *arg)
{
    struct parsing *p = arg;

    return api_body_parse(p->text, p->len, &p->body);
}

static void on_parsed(void *arg, struct err *e)
{
    struct parsing *p = arg;

    http_body_return(p->req, p->text);
    p->done(p->agent, p->req, p->body, e);
    free(p);
}

void api_body_parse_later(struct agent *a, struct http_request *req, api_parsed_fn *done)
{
    struct parsing *p = mem_new(struct parsing);

    *p = (struct parsing){.agent = a, .req = req, .done = done};
    p->text = http_body_borrow(req, &p->len);
    lane_submit(a->parse_lane, parse, p, on_parsed);
}
