/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/http/http_error.h"

#include <stdio.h>
#include <time.h>

#include "base/json_table.h"
#include "base/str.h"

static const struct {
    int status;
    const char *word, *reason;
} words[] = {
    {400, "Bad Request", "The request is not well-formed HTTP/1.1: look at its request line, headers and chunks"},
    {408, "Request Timeout", "The request did not arrive in time"},
    {411, "Length Required", "The request needs a Content-Length"},
    {413, "Payload Too Large", "A chunk of the request's body, or the line before it, is too large"},
    {414, "URI Too Long", "The path and the query do not fit into 32 KiB"},
    {417, "Expectation Failed", "The header Expect has a value that is not served"},
    {429, "Too Many Requests", "Too many requests"},
    {431, "Request Header Fields Too Large", "The request's head does not fit into 32 KiB"},
    {500, "Internal Server Error", "The request could not be taken apart"},
    {501, "Not Implemented", "The request asks for something that this server does not do"},
    {503, "Service Unavailable", "The server has no room for the request; ask again"},
    {505, "HTTP Version Not Supported", "HTTP/1.1 is needed"},
};

static size_t find(int status)
{
    size_t i = 0;

    while (i < ARRAY_LEN(words) && words[i].status != status)
        i++;
    return i;
}

const char *http_status_word(int status)
{
    size_t i = find(status);

    return i < ARRAY_LEN(words) ? words[i].word : "Error";
}

const char *http_error_reason(int status)
{
    size_t i = find(status);

    return i < ARRAY_LEN(words) ? words[i].reason : "The request is refused";
}

json_t *http_envelope(int status, const char *message)
{
    return json_pack("{s:i, s:s, s:s, s:n}", "statusCode", status, "error", http_status_word(status), "message",
                     message, "data");
}

char *http_error_reply(int status, const char *message, int retry_after_s, size_t *ret_len)
{
    autojson j = http_envelope(status, message);
    autofree char *body = json_dumps(j, JSON_COMPACT);
    char date[64] = "", retry[48] = "", *text;
    time_t now = time(NULL);
    struct tm tm;

    if (!body)
        abort();
    if (gmtime_r(&now, &tm))
        (void)strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
    if (retry_after_s > 0)
        snprintf(retry, sizeof(retry), "Retry-After: %d\r\n", retry_after_s);
    text = str_fmt("HTTP/1.1 %d %s\r\nDate: %s\r\n%sContent-Type: application/json\r\nCache-Control: no-store\r\n"
                   "Connection: close\r\nContent-Length: %zu\r\n\r\n%s",
                   status, http_status_word(status), date, retry, strlen(body), body);
    *ret_len = strlen(text);
    return text;
}
