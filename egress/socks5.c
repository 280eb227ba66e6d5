/* SPDX-License-Identifier: Apache-2.0 */
#include "egress/handshake_internal.h"
#include "egress/socks5_udp.h"

enum { VERSION = 5, LOGIN_VERSION = 1, CONNECT = 1, ASSOCIATE = 3, NO_LOGIN = 0, LOGIN = 2, NO_METHOD = 0xff };
enum { TYPE_IPV4 = 1, TYPE_NAME = 3, TYPE_IPV6 = 4 };
enum step { METHOD, LOGGED_IN, CONNECTED };

void socks5_begin(struct handshake *h)
{
    static const uint8_t open[] = {VERSION, 1, NO_LOGIN}, with_login[] = {VERSION, 2, NO_LOGIN, LOGIN};

    if (h->username)
        handshake_say(h, with_login, sizeof(with_login));
    else
        handshake_say(h, open, sizeof(open));
}

static void say_text(struct handshake *h, const char *text)
{
    const uint8_t len = (uint8_t)strlen(text); /* at most PROXY_SECRET_MAX */

    handshake_say(h, &len, 1);
    handshake_say(h, text, len);
}

static enum handshake_state log_in(struct handshake *h)
{
    const uint8_t version = LOGIN_VERSION;

    handshake_say(h, &version, 1);
    say_text(h, h->username);
    say_text(h, h->password);
    h->step = LOGGED_IN;
    h->in_len = 0;
    return HANDSHAKE_MORE;
}

static enum handshake_state ask(struct handshake *h)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&h->target;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&h->target;
    bool is_v4 = h->target.ss_family == AF_INET;
    const uint8_t head[] = {VERSION, h->use == HANDSHAKE_ASSOCIATE ? ASSOCIATE : CONNECT, 0,
                            is_v4 ? TYPE_IPV4 : TYPE_IPV6};

    if (h->use == HANDSHAKE_PROBE)
        return HANDSHAKE_DONE;
    handshake_say(h, head, sizeof(head));
    if (is_v4)
        handshake_say(h, &v4->sin_addr, sizeof(v4->sin_addr));
    else
        handshake_say(h, &v6->sin6_addr, sizeof(v6->sin6_addr));
    handshake_say(h, is_v4 ? &v4->sin_port : &v6->sin6_port, sizeof(in_port_t));
    h->step = CONNECTED;
    h->in_len = 0;
    return HANDSHAKE_MORE;
}

static enum handshake_state method(struct handshake *h)
{
    if (h->in[1] == NO_LOGIN)
        return ask(h);
    if (h->in[1] == LOGIN && h->username)
        return log_in(h);
    if (h->in[1] == NO_METHOD)
        return handshake_end(h, HANDSHAKE_FAILED,
                             h->username ? "the proxy takes neither no login nor a user name with a password"
                                         : "the proxy wants a login");
    return handshake_end(h, HANDSHAKE_FAILED, "the proxy chose a login method that was not offered");
}

/* How long the answer is, as far as that can be told from what is there. */
static size_t answer_len(const struct handshake *h)
{
    if (h->in_len < 5)
        return 5; /* with the first byte of the address, which is a length for a name */
    if (h->in[3] == TYPE_IPV4)
        return 4 + 4 + 2;
    if (h->in[3] == TYPE_IPV6)
        return 4 + 16 + 2;
    return 4 + 1 + (size_t)h->in[4] + 2;
}

static enum handshake_state answer(struct handshake *h)
{
    static const char *const words[] = {NULL,
                                        "general failure",
                                        "not allowed",
                                        "network unreachable",
                                        "host unreachable",
                                        "connection refused",
                                        "TTL expired",
                                        "command not supported",
                                        "address type not supported"};
    uint8_t reply = h->in[1];

    if (reply == 0)
        return HANDSHAKE_DONE;
    return handshake_end(h, HANDSHAKE_REFUSED, "the proxy does not connect: %s",
                         reply < ARRAY_LEN(words) ? words[reply] : "unknown reason");
}

enum handshake_state socks5_heard(struct handshake *h)
{
    /* A wrong first byte is seen at once: who sends one may not send more. */
    if (h->in[0] != (h->step == LOGGED_IN ? LOGIN_VERSION : VERSION))
        return handshake_end(h, HANDSHAKE_FAILED, "what answers is no SOCKS5 proxy");
    if (h->in_len < 2)
        return HANDSHAKE_MORE;
    if (h->step == METHOD)
        return method(h);
    if (h->step == LOGGED_IN)
        return h->in[1] == 0 ? ask(h) : handshake_end(h, HANDSHAKE_FAILED, "the proxy refuses the login");
    if (h->in_len > 3 && h->in[3] != TYPE_IPV4 && h->in[3] != TYPE_IPV6 && h->in[3] != TYPE_NAME)
        return handshake_end(h, HANDSHAKE_FAILED, "the proxy's answer has an unknown address type");
    return h->in_len < answer_len(h) ? HANDSHAKE_MORE : answer(h);
}

bool handshake_bound(const struct handshake *h, struct sockaddr_storage *ret)
{
    return socks5_address(h->in + 3, h->in_len - 3, ret) != 0;
}
