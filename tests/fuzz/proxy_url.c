/* SPDX-License-Identifier: Apache-2.0 */
/* A proxy's URL as a client may send it; what was taken once is taken again as it is shown. */
#include "egress/proxy_url.h"
#include "base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    enum proxy_kind kind = len ? (enum proxy_kind)(data[0] % PROXY_KIND_MAX) : PROXY_HTTP;
    autofree char *text = len ? strndup((const char *)data + 1, len - 1) : str_dup(""), *shown = NULL, *again = NULL;
    struct proxy_url u, same;
    struct err *e = proxy_url_parse(text, kind, &u);

    if (e) {
        err_free(e);
        return 0;
    }
    shown = proxy_url_text(kind, &u);
    e = proxy_url_parse(shown, kind, &same);
    if (e || same.username)
        abort();
    again = proxy_url_text(kind, &same);
    if (!str_eq(shown, again) || (u.username && strlen(u.username) > PROXY_SECRET_MAX))
        abort();
    proxy_url_clear(&u);
    proxy_url_clear(&same);
    return 0;
}
