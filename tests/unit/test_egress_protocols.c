/* SPDX-License-Identifier: Apache-2.0 */
/* URLs of proxies, what is said to them and heard from them, and DNS messages. */
#include "test.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "base/str.h"
#include "egress/dns.h"
#include "egress/handshake.h"
#include "egress/proxy_url.h"
#include "egress/socks5_udp.h"

/* --- URLs */

static void test_urls(void **state)
{
    static const struct {
        enum proxy_kind kind;
        const char *text, *same, *username, *password;
    } cases[] = {
        {PROXY_SOCKS5, "socks5://h", "socks5://h:1080", NULL, NULL},
        {PROXY_SOCKS5, "SOCKS5h://Proxy.Example:9/", "socks5://proxy.example:9", NULL, NULL},
        {PROXY_HTTP, "http://10.0.0.1", "http://10.0.0.1:80", NULL, NULL},
        {PROXY_HTTPS, "https://[2001:DB8::1]", "https://[2001:db8::1]:443", NULL, NULL},
        {PROXY_HTTPS, "https://[2001:db8::1]:1", "https://[2001:db8::1]:1", NULL, NULL},
        {PROXY_SOCKS5, "socks5://u@h:1", "socks5://h:1", "u", ""},
        {PROXY_SOCKS5, "socks5://u:p@h:1", "socks5://h:1", "u", "p"},
        {PROXY_SOCKS5, "socks5://a%40b:p%3a@q@h:1", "socks5://h:1", "a@b", "p:@q"},
        {PROXY_SOCKS5, "socks5://a:b:c@h:1", "socks5://h:1", "a", "b:c"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct proxy_url u;
        char *text;

        assert_ok(proxy_url_parse(cases[i].text, cases[i].kind, &u));
        text = proxy_url_text(cases[i].kind, &u);
        assert_string_equal(text, cases[i].same);
        assert_true(str_eq(u.username, cases[i].username) && str_eq(u.password, cases[i].password));
        proxy_url_clear(&u);
        free(text);
    }
}

static void test_bad_urls(void **state)
{
    static const char *const texts[] = {
        "",
        "h:1",
        "socks5:h",
        "socks5://",
        "socks5://:1",
        "socks5://h:",
        "socks5://h:0",
        "socks5://h:65536",
        "socks5://h:+1",
        "socks5://h:1x",
        "socks5://h:1/x",
        "socks5://h:1?x",
        "socks5://h:1#x",
        "socks5://h h:1",
        "socks5://h\r\nX: y:1",
        "socks5://1.2.3:1",
        "socks5://1.2.3.4.5",
        "socks5://.h",
        "socks5://-h",
        "socks5://a..b",
        "socks5://[::1",
        "socks5://[::1]x",
        "socks5://[h]:1",
        "socks5://::1:1",
        "socks5://:p@h",
        "socks5://@h",
        "socks5://u%0a:p@h",
        "socks5://u%00:p@h",
        "socks5://u%4:p@h",
        "socks5://u%zz:p@h",
        "http://h:1",
        "socks4://h:1",
        "socks5hh://h:1",
    };
    autofree char *secret = str_fmt("socks5://u:secret%0256d@h", 1), *longest = str_fmt("socks5://%02048d", 1);
    struct proxy_url u;
    struct err *e;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        e = proxy_url_parse(texts[i], PROXY_SOCKS5, &u);
        if (!e)
            fail_msg("'%s' was taken", texts[i]);
        assert_string_equal(e->field, "proxy");
        err_free(e);
    }
    e = proxy_url_parse(secret, PROXY_SOCKS5, &u);
    assert_non_null(e);
    assert_null(strstr(e->message, "secret"));
    err_free(e);
    assert_err(proxy_url_parse(longest, PROXY_SOCKS5, &u), ERR_INVALID);
    assert_err(proxy_url_parse("http://a%3ab:c@h", PROXY_HTTP, &u), ERR_INVALID);
}

/* --- handshakes */

static struct sockaddr_in target4(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(443)};

    inet_pton(AF_INET, "192.0.2.1", &sa.sin_addr);
    return sa;
}

static struct sockaddr_in6 target6(void)
{
    struct sockaddr_in6 sa = {.sin6_family = AF_INET6, .sin6_port = htons(443)};

    inet_pton(AF_INET6, "2001:db8::1", &sa.sin6_addr);
    return sa;
}

static struct handshake *begin(enum proxy_kind kind, const char *username, bool v6)
{
    struct handshake *h = mem_new(struct handshake);
    const struct sockaddr_in v4 = target4();
    const struct sockaddr_in6 six = target6();

    handshake_init(h, kind, username, username ? "pass" : NULL,
                   v6 ? (const struct sockaddr *)&six : (const struct sockaddr *)&v4, HANDSHAKE_CONNECT);
    return h;
}

static void expect_said(struct handshake *h, const void *data, size_t len)
{
    assert_int_equal(h->out_len, len);
    assert_memory_equal(h->out, data, len);
    h->out_len = 0;
}
#define SAID(h, literal) expect_said((h), literal, sizeof(literal) - 1)

static enum handshake_state hear(struct handshake *h, const void *data, size_t len)
{
    size_t used = 0;

    return handshake_feed(h, data, len, &used);
}
#define HEAR(h, literal) hear((h), literal, sizeof(literal) - 1)

static void test_socks5(void **state)
{
    struct handshake *h = begin(PROXY_SOCKS5, NULL, false);
    size_t used;

    (void)state;
    SAID(h, "\5\1\0");
    assert_int_equal(HEAR(h, "\5\0"), HANDSHAKE_MORE);
    SAID(h, "\5\1\0\1\300\0\2\1\1\273");
    assert_int_equal(handshake_feed(h, (const uint8_t *)"\5\0\0\1\1\2\3\4\5\6rest", 14, &used), HANDSHAKE_DONE);
    assert_int_equal(used, 10);
    free(h);
    h = begin(PROXY_SOCKS5, "user", true);
    SAID(h, "\5\2\0\2");
    assert_int_equal(HEAR(h, "\5"), HANDSHAKE_MORE);
    assert_int_equal(HEAR(h, "\2"), HANDSHAKE_MORE);
    SAID(h, "\1\4user\4pass");
    assert_int_equal(HEAR(h, "\1\0"), HANDSHAKE_MORE);
    SAID(h, "\5\1\0\4\40\1\15\270\0\0\0\0\0\0\0\0\0\0\0\1\1\273");
    assert_int_equal(HEAR(h, "\5\0\0\3\3abc\1\1"), HANDSHAKE_DONE);
    free(h);
}

static void test_socks5_probe_ends_at_the_login(void **state)
{
    const struct sockaddr_in v4 = target4();
    struct handshake *h = mem_new(struct handshake);

    (void)state;
    handshake_init(h, PROXY_SOCKS5, "u", "p", (const struct sockaddr *)&v4, HANDSHAKE_PROBE);
    assert_int_equal(HEAR(h, "\5\2"), HANDSHAKE_MORE);
    assert_int_equal(HEAR(h, "\1\0"), HANDSHAKE_DONE);
    free(h);
}

static void test_socks5_associate(void **state)
{
    const struct sockaddr_in6 v6 = target6();
    struct handshake *h = mem_new(struct handshake);
    struct sockaddr_storage bound;

    (void)state;
    handshake_init(h, PROXY_SOCKS5, NULL, NULL, (const struct sockaddr *)&v6, HANDSHAKE_ASSOCIATE);
    SAID(h, "\5\1\0");
    assert_int_equal(HEAR(h, "\5\0"), HANDSHAKE_MORE);
    SAID(h, "\5\3\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_int_equal(HEAR(h, "\5\0\0\1\300\0\2\7\20\341"), HANDSHAKE_DONE);
    assert_true(handshake_bound(h, &bound));
    assert_int_equal(bound.ss_family, AF_INET);
    assert_int_equal(((struct sockaddr_in *)&bound)->sin_port, htons(4321));
    assert_int_equal(((struct sockaddr_in *)&bound)->sin_addr.s_addr, htonl(0xc0000207));
    handshake_init(h, PROXY_SOCKS5, NULL, NULL, (const struct sockaddr *)&v6, HANDSHAKE_ASSOCIATE);
    HEAR(h, "\5\0");
    assert_int_equal(HEAR(h, "\5\0\0\3\4name\1\2"), HANDSHAKE_DONE);
    assert_false(handshake_bound(h, &bound));
    handshake_init(h, PROXY_SOCKS5, NULL, NULL, (const struct sockaddr *)&v6, HANDSHAKE_ASSOCIATE);
    HEAR(h, "\5\0");
    assert_int_equal(HEAR(h, "\5\7\0\1\0\0\0\0\0\0"), HANDSHAKE_REFUSED);
    assert_non_null(strstr(h->problem, "command not supported"));
    free(h);
}

static size_t parse(const char *data, size_t len, struct sockaddr_storage *ret)
{
    return socks5_udp_parse((const uint8_t *)data, len, ret);
}
#define PARSE(literal, ret) parse(literal, sizeof(literal) - 1, ret)

static void test_socks5_datagrams(void **state)
{
    const struct sockaddr_in v4 = target4();
    const struct sockaddr_in6 v6 = target6();
    static const char whole[] = "\0\0\0\4\40\1\15\270\0\0\0\0\0\0\0\0\0\0\0\1\1\273";
    uint8_t head[SOCKS5_UDP_HEAD_MAX];
    struct sockaddr_storage from;

    (void)state;
    assert_int_equal(socks5_udp_head((const struct sockaddr *)&v4, head), 10);
    assert_memory_equal(head, "\0\0\0\1\300\0\2\1\1\273", 10);
    assert_int_equal(socks5_udp_head((const struct sockaddr *)&v6, head), 22);
    assert_memory_equal(head, whole, 22);
    assert_int_equal(PARSE("\0\0\0\1\300\0\2\1\1\273data", &from), 10);
    assert_memory_equal(&from, &v4, sizeof(v4));
    assert_int_equal(PARSE("\0\0\0\1\300\0\2\1\1\273", &from), 10); /* an empty datagram */
    assert_int_equal(parse(whole, 22, &from), 22);
    assert_memory_equal(&from, &v6, sizeof(v6));
    for (size_t len = 0; len < 22; len++)
        assert_int_equal(parse(whole, len, &from), 0);
    assert_int_equal(PARSE("\0\0\1\1\300\0\2\1\1\273data", &from), 0); /* a fragment */
    assert_int_equal(PARSE("\0\0\0\3\4name\0\65data", &from), 0);
    assert_int_equal(PARSE("\0\0\0\2\300\0\2\1\1\273data", &from), 0);
}

static void test_http(void **state)
{
    struct handshake *h = begin(PROXY_HTTP, NULL, false);
    static const char answer[] = "HTTP/1.1 200 Connection established\r\nContent-Length: 5\r\n\r\nrest";
    size_t used;

    (void)state;
    SAID(h, "CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: 192.0.2.1:443\r\n\r\n");
    assert_int_equal(handshake_feed(h, (const uint8_t *)answer, sizeof(answer) - 1, &used), HANDSHAKE_DONE);
    assert_int_equal(used, sizeof(answer) - 5);
    free(h);
    h = begin(PROXY_HTTPS, "user", true);
    SAID(h, "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n"
            "Proxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n");
    assert_int_equal(HEAR(h, "HTTP/1.0 100 Wait\r\n\r\nHTTP/1.0 204\r\n\r\n"), HANDSHAKE_DONE);
    free(h);
}

/* What a proxy, or what is none, may say instead; whole and byte by byte. */
static void test_hostile_answers(void **state)
{
    static const struct {
        enum proxy_kind kind;
        const char *username;
        enum handshake_state end;
        const char *data;
        size_t len;
    } cases[] = {
#define CASE(kind, user, end, literal) {kind, user, end, literal, sizeof(literal) - 1}
        CASE(PROXY_SOCKS5, NULL, HANDSHAKE_FAILED, "HTTP/1.1 400 Bad Request\r\n\r\n"),
        CASE(PROXY_SOCKS5, NULL, HANDSHAKE_FAILED, "\4\132"),
        CASE(PROXY_SOCKS5, NULL, HANDSHAKE_FAILED, "\5\377"),
        CASE(PROXY_SOCKS5, NULL, HANDSHAKE_FAILED, "\5\2"),
        CASE(PROXY_SOCKS5, "u", HANDSHAKE_FAILED, "\5\1"),
        CASE(PROXY_SOCKS5, "u", HANDSHAKE_FAILED, "\5\2\1\1"),
        CASE(PROXY_SOCKS5, "u", HANDSHAKE_FAILED, "\5\2\5\0"),
        CASE(PROXY_SOCKS5, NULL, HANDSHAKE_FAILED, "\5\0\4\0\0\1"),
        CASE(PROXY_SOCKS5, NULL, HANDSHAKE_FAILED, "\5\0\5\0\0\2"),
        CASE(PROXY_SOCKS5, NULL, HANDSHAKE_REFUSED, "\5\0\5\4\0\1\0\0\0\0\0\0"),
        CASE(PROXY_SOCKS5, NULL, HANDSHAKE_REFUSED, "\5\0\5\377\0\3\0\0\0"),
        CASE(PROXY_SOCKS5, NULL, HANDSHAKE_MORE, "\5\0\5\0\0\3\377abc"),
        CASE(PROXY_HTTP, NULL, HANDSHAKE_FAILED, "\5\0"),
        CASE(PROXY_HTTP, NULL, HANDSHAKE_FAILED, "SSH-2.0-x\r\n"),
        CASE(PROXY_HTTP, NULL, HANDSHAKE_FAILED, "HTTP/2 200\r\n\r\n"),
        CASE(PROXY_HTTP, NULL, HANDSHAKE_FAILED, "HTTP/1.1 20\r\n\r\n  "),
        CASE(PROXY_HTTP, NULL, HANDSHAKE_FAILED, "HTTP/1.1 2000 x\r\n\r\n"),
        CASE(PROXY_HTTP, NULL, HANDSHAKE_FAILED, "HTTP/1.1 999 x\r\n\r\n"),
        CASE(PROXY_HTTP, NULL, HANDSHAKE_FAILED, "HTTP/1.1 \0\0\0 x\r\n\r\n"),
        CASE(PROXY_HTTP, NULL, HANDSHAKE_FAILED, "HTTP/1.\r\n\r\n"),
        CASE(PROXY_HTTP, NULL, HANDSHAKE_FAILED, "HTTP/1.1 407 Login\r\n\r\n"),
        CASE(PROXY_HTTP, "u", HANDSHAKE_FAILED, "HTTP/1.1 407 Login\r\n\r\n"),
        CASE(PROXY_HTTP, NULL, HANDSHAKE_REFUSED, "HTTP/1.1 403 No\r\nA: b\r\n\r\n"),
        CASE(PROXY_HTTP, NULL, HANDSHAKE_REFUSED, "HTTP/1.1 302 There\r\n\r\n"),
        CASE(PROXY_HTTP, NULL, HANDSHAKE_MORE, "HTTP/1.1 200 OK\n\n"),
#undef CASE
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (size_t step = 1; step <= cases[i].len; step += cases[i].len > 1 ? cases[i].len - 1 : 1) {
            struct handshake *h = begin(cases[i].kind, cases[i].username, false);
            enum handshake_state end = HANDSHAKE_MORE;

            for (size_t at = 0; at < cases[i].len && end == HANDSHAKE_MORE; at += step) {
                end = hear(h, cases[i].data + at, MIN(step, cases[i].len - at));
                h->out_len = 0;
            }
            if (end != cases[i].end)
                fail_msg("case %zu in steps of %zu: %d", i, step, (int)end);
            assert_true((end == HANDSHAKE_MORE) == str_empty(h->problem));
            free(h);
        }
    }
}

static void test_answers_without_end(void **state)
{
    struct handshake *h = begin(PROXY_HTTP, NULL, false);
    enum handshake_state end = HEAR(h, "HTTP/1.1 200 OK\r\nX: ");
    size_t fed = 0;

    (void)state;
    while (end == HANDSHAKE_MORE && fed++ < 1 << 20)
        end = HEAR(h, "x");
    assert_int_equal(end, HANDSHAKE_FAILED);
    assert_in_range(fed, 1, HANDSHAKE_IN_MAX);
    free(h);
    h = begin(PROXY_HTTP, NULL, false);
    end = HANDSHAKE_MORE;
    for (fed = 0; end == HANDSHAKE_MORE && fed < 1000; fed++)
        end = HEAR(h, "HTTP/1.1 100 Wait\r\n\r\n");
    assert_int_equal(end, HANDSHAKE_FAILED);
    assert_true(fed < 20);
    free(h);
}

/* Many answers that are right for a while and then are not: nothing is written where it should not be, and an end is
 * an end. */
static void test_random_answers(void **state)
{
    static const char *const parts[] = {"HTTP/1.1 ", "200", " OK", "\r\n", "\r\n\r\n", "\5", "\2", "\1", "X: y"};
    uint32_t seed = 1;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        enum handshake_state end = HANDSHAKE_MORE;
        struct handshake *h = begin((enum proxy_kind)(round % PROXY_KIND_MAX), round % 2 ? "u" : NULL, round % 5 == 0);

        for (int i = 0; i < 40 && end == HANDSHAKE_MORE; i++) {
            uint8_t byte;
            size_t used = 99;

            seed = seed * 1664525 + 1013904223;
            byte = (uint8_t)(seed >> 24);
            h->out_len = 0;
            if (byte & 1)
                end = hear(h, parts[(byte >> 1) % ARRAY_LEN(parts)], strlen(parts[(byte >> 1) % ARRAY_LEN(parts)]));
            else
                end = handshake_feed(h, (uint8_t[]){(byte & 2) ? 0 : byte}, 1, &used);
            assert_true(h->in_len <= HANDSHAKE_IN_MAX && h->out_len <= HANDSHAKE_OUT_MAX);
            assert_in_range(end, HANDSHAKE_MORE, HANDSHAKE_FAILED);
        }
        free(h);
    }
}

/* --- DNS */

#define HEAD "\22\64\1\0\0\1\0\0\0\0\0\0"
#define QUESTION "\1a\4test\0\0\1\0\1"

static void test_dns_queries(void **state)
{
    static const char good[] = HEAD QUESTION, answer[] = "\22\64\201\0\0\1\0\0\0\0\0\0" QUESTION,
                      two[] = "\22\64\1\0\0\2\0\0\0\0\0\0" QUESTION QUESTION, pointer[] = HEAD "\300\14\0\1\0\1";

    (void)state;
    assert_true(dns_is_query((const uint8_t *)good, sizeof(good) - 1));
    for (size_t len = 0; len < sizeof(good) - 1; len++)
        assert_false(dns_is_query((const uint8_t *)good, len));
    assert_false(dns_is_query((const uint8_t *)answer, sizeof(answer) - 1));
    assert_false(dns_is_query((const uint8_t *)two, sizeof(two) - 1));
    assert_false(dns_is_query((const uint8_t *)pointer, sizeof(pointer) - 1));
}

static void test_dns_answer_sizes(void **state)
{
    static const char plain[] = HEAD QUESTION,
                      opt[] = "\22\64\1\0\0\1\0\0\0\0\0\1" QUESTION "\0\0\51\4\320\0\0\0\0\0\0",
                      small[] = "\22\64\1\0\0\1\0\0\0\0\0\1" QUESTION "\0\0\51\0\1\0\0\0\0\0\0",
                      cut[] = "\22\64\1\0\0\1\0\0\0\0\0\1" QUESTION "\0\0\51\4";

    (void)state;
    assert_int_equal(dns_answer_max((const uint8_t *)plain, sizeof(plain) - 1), 512);
    assert_int_equal(dns_answer_max((const uint8_t *)opt, sizeof(opt) - 1), 1232);
    assert_int_equal(dns_answer_max((const uint8_t *)small, sizeof(small) - 1), 512);
    assert_int_equal(dns_answer_max((const uint8_t *)cut, sizeof(cut) - 1), 512);
}

static void test_dns_empty_answers(void **state)
{
    static const char query[] = "\22\64\1\40\0\1\0\0\0\0\0\1" QUESTION "\0\0\51\4\320\0\0\0\0\0\0",
                      cut[] = "\22\64\203\200\0\1\0\0\0\0\0\0" QUESTION,
                      failed[] = "\22\64\201\202\0\1\0\0\0\0\0\0" QUESTION;
    uint8_t out[DNS_QUERY_MAX];

    (void)state;
    assert_int_equal(dns_truncated((const uint8_t *)query, sizeof(query) - 1, out), sizeof(cut) - 1);
    assert_memory_equal(out, cut, sizeof(cut) - 1);
    assert_int_equal(dns_failure((const uint8_t *)query, sizeof(query) - 1, out), sizeof(failed) - 1);
    assert_memory_equal(out, failed, sizeof(failed) - 1);
    dns_set_id(out, 0xabcd);
    assert_int_equal(dns_id(out), 0xabcd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_bad_urls),
        cmocka_unit_test(test_socks5),
        cmocka_unit_test(test_socks5_probe_ends_at_the_login),
        cmocka_unit_test(test_socks5_associate),
        cmocka_unit_test(test_socks5_datagrams),
        cmocka_unit_test(test_http),
        cmocka_unit_test(test_hostile_answers),
        cmocka_unit_test(test_answers_without_end),
        cmocka_unit_test(test_random_answers),
        cmocka_unit_test(test_dns_queries),
        cmocka_unit_test(test_dns_answer_sizes),
        cmocka_unit_test(test_dns_empty_answers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
