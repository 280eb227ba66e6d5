/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/http/tls_expiry.h"

#include <openssl/x509.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/str.h"

#define DAY_MS (24 * 3600 * INT64_C(1000))

static const struct {
    const char *word, *key, *effect, *remedy;
} parts[] = {
    [TLS_CERTIFICATE] = {"certificate", "the server's certificate", "clients refuse this server", "renew it"},
    [TLS_CA] = {"client_ca", "the CA of the clients", "every client certificate is refused", "put a newer one there"},
    [TLS_CRL] = {"crl", "the revocation list", "every client certificate is refused", "fetch a newer list of the CA"},
};

const char *tls_state_word(enum tls_state state)
{
    static const char *const words[] = {"ok", "expiring", "expired"};

    return words[state];
}

static int64_t time_ms(const ASN1_TIME *time, int64_t otherwise)
{
    struct tm tm = {0};

    return time && ASN1_TIME_to_tm(time, &tm) == 1 ? (int64_t)timegm(&tm) * 1000 : otherwise;
}

/* Of one issuer the newest list counts, of several issuers the one that ends first. */
static bool is_newest(STACK_OF(X509_OBJECT) * all, const X509_CRL *crl)
{
    for (int i = 0; i < sk_X509_OBJECT_num(all); i++) {
        const X509_CRL *other = X509_OBJECT_get0_X509_CRL(sk_X509_OBJECT_value(all, i));

        if (other && other != crl && X509_NAME_cmp(X509_CRL_get_issuer(other), X509_CRL_get_issuer(crl)) == 0 &&
            time_ms(X509_CRL_get0_lastUpdate(other), 0) > time_ms(X509_CRL_get0_lastUpdate(crl), 0))
            return false;
    }
    return true;
}

static void add(struct tls_expiry *x, enum tls_part part, int64_t from, int64_t until, bool latest)
{
    int64_t *now = &x->part[part].until_ms;

    if (*now != 0 && (until > *now) != latest)
        return;
    *now = until;
    x->part[part].from_ms = from;
}

void tls_expiry_of(SSL_CTX *ctx, const struct config *c, struct tls_expiry *ret)
{
    const char *const files[] = {
        [TLS_CERTIFICATE] = c->tls_certificate, [TLS_CA] = c->tls_client_ca, [TLS_CRL] = c->tls_crl};
    STACK_OF(X509_OBJECT) *all = X509_STORE_get0_objects(SSL_CTX_get_cert_store(ctx));
    X509 *own = SSL_CTX_get0_certificate(ctx);

    *ret = (struct tls_expiry){0};
    for (enum tls_part p = 0; p < TLS_PART_MAX; p++)
        snprintf(ret->part[p].file, sizeof(ret->part[p].file), "%s", files[p] ? files[p] : "");
    if (own)
        add(ret, TLS_CERTIFICATE, time_ms(X509_get0_notBefore(own), 0), time_ms(X509_get0_notAfter(own), INT64_MAX),
            false);
    for (int i = 0; i < sk_X509_OBJECT_num(all); i++) {
        const X509_OBJECT *object = sk_X509_OBJECT_value(all, i);
        const X509 *ca = X509_OBJECT_get0_X509(object);
        const X509_CRL *crl = X509_OBJECT_get0_X509_CRL((X509_OBJECT *)(uintptr_t)object);

        if (ca)
            add(ret, TLS_CA, time_ms(X509_get0_notBefore(ca), 0), time_ms(X509_get0_notAfter(ca), INT64_MAX), true);
        else if (crl && is_newest(all, crl))
            add(ret, TLS_CRL, time_ms(X509_CRL_get0_lastUpdate(crl), 0),
                time_ms(X509_CRL_get0_nextUpdate(crl), INT64_MAX), false);
    }
}

static enum tls_state state_of(const struct tls_expiry *x, enum tls_part part, int64_t now)
{
    if (x->part[part].until_ms == 0)
        return TLS_OK;
    if (x->part[part].until_ms <= now || x->part[part].from_ms > now)
        return TLS_EXPIRED;
    return x->part[part].until_ms - now <= TLS_WARN_DAYS * DAY_MS ? TLS_EXPIRING : TLS_OK;
}

enum tls_state tls_expiry_state(const struct tls_expiry *x, int64_t now_ms)
{
    enum tls_state worst = TLS_OK;

    for (enum tls_part p = 0; p < TLS_PART_MAX; p++)
        worst = MAX(worst, state_of(x, p, now_ms));
    return worst;
}

char *tls_expiry_text(const struct tls_expiry *x, int64_t now_ms)
{
    enum tls_state state = tls_expiry_state(x, now_ms);
    char time[STR_TIME_SIZE];
    enum tls_part p = 0, found = TLS_PART_MAX;

    if (state == TLS_OK)
        return NULL;
    for (; p < TLS_PART_MAX; p++)
        if (state_of(x, p, now_ms) == state && (found == TLS_PART_MAX || x->part[p].until_ms < x->part[found].until_ms))
            found = p;
    p = found;
    if (x->part[p].from_ms > now_ms)
        return str_fmt("%s '%s' is not valid before %s: until then %s; %s or set the clock, then reload noded",
                       parts[p].key, x->part[p].file, str_time(x->part[p].from_ms, time), parts[p].effect,
                       parts[p].remedy);
    return str_fmt("%s '%s' %s on %s: %s %s; %s, then reload noded", parts[p].key, x->part[p].file,
                   state == TLS_EXPIRED ? "expired" : "expires", str_time(x->part[p].until_ms, time),
                   state == TLS_EXPIRED ? "now" : "from then on", parts[p].effect, parts[p].remedy);
}

struct err *tls_expiry_check(const struct tls_expiry *x)
{
    int64_t now = clock_wall_ms();
    autofree char *text = tls_expiry_state(x, now) == TLS_EXPIRED ? tls_expiry_text(x, now) : NULL;

    return text ? err_new(ERR_HOST, "%s", text) : NULL;
}

json_t *tls_expiry_json(const struct tls_expiry *x)
{
    int64_t now = clock_wall_ms();
    autofree char *text = tls_expiry_text(x, now);
    json_t *list = json_array();
    char time[STR_TIME_SIZE];

    for (enum tls_part p = 0; p < TLS_PART_MAX; p++)
        if (x->part[p].until_ms != 0)
            json_array_append_new(
                list, json_pack("{s:s, s:s, s:s?}", "part", parts[p].word, "file", x->part[p].file, "until",
                                x->part[p].until_ms == INT64_MAX ? NULL : str_time(x->part[p].until_ms, time)));
    return json_pack("{s:s, s:o, s:s?}", "state", tls_state_word(tls_expiry_state(x, now)), "parts", list, "remedy",
                     text);
}
