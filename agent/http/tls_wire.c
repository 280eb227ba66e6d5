/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/http/tls_wire.h"

#include <openssl/err.h>
#include <sys/socket.h>

ssize_t tls_outcome(const SSL *ssl, int rc, bool *want_write)
{
    int why = SSL_get_error(ssl, rc);

    if (why == SSL_ERROR_WANT_WRITE)
        *want_write = true;
    return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? WIRE_AGAIN : WIRE_END;
}

static ssize_t tls_read(const struct wire *w, void *buf, size_t len, bool *want_write)
{
    int n;

    ERR_clear_error();
    n = SSL_read(w->tls, buf, (int)len);
    return n > 0 ? n : tls_outcome(w->tls, n, want_write);
}

static ssize_t tls_write(const struct wire *w, const void *buf, size_t len, bool *want_write)
{
    int n;

    ERR_clear_error();
    n = SSL_write(w->tls, buf, (int)len);
    return n > 0 ? n : tls_outcome(w->tls, n, want_write);
}

static void tls_finish(const struct wire *w)
{
    ERR_clear_error();
    (void)SSL_shutdown(w->tls);
    (void)shutdown(w->fd, SHUT_WR);
}

static void tls_free(const struct wire *w)
{
    SSL_free(w->tls);
}

struct wire tls_wire(SSL *ssl, int fd)
{
    static const struct wire_ops ops = {tls_read, tls_write, tls_finish, tls_free};

    return (struct wire){.ops = &ops, .tls = ssl, .fd = fd};
}
