/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>
#include <time.h>
#include <unistd.h>

/* The only mutable globals of the project: written once by log_open before any thread starts. */
static struct {
    const char *identifier;
    enum log_level max;
    bool journal;
} state = {.identifier = "noded", .max = LOG_LEVEL_INFO};

enum { LOG_FIELDS_MAX = 10 };

void log_open(const char *identifier, enum log_level max, bool to_stderr)
{
    struct stat st;

    state.identifier = identifier;
    state.max = max;
    state.journal = !to_stderr && stat("/run/systemd/journal/socket", &st) == 0 && S_ISSOCK(st.st_mode);
}

static void add_field(struct iovec *iov, int *n, char **text, const char *name, const char *value)
{
    if (!value || *n >= LOG_FIELDS_MAX || asprintf(text, "%s=%s", name, value) < 0) {
        *text = NULL;
        return;
    }
    iov[*n] = (struct iovec){.iov_base = *text, .iov_len = strlen(*text)};
    (*n)++;
}

static void to_journal(enum log_level level, const struct log_ctx *ctx, const char *file, int line, const char *func,
                       const char *code, const char *text)
{
    struct iovec iov[LOG_FIELDS_MAX];
    char *owned[LOG_FIELDS_MAX] = {0};
    char number[2][16];
    int n = 0;
    size_t k = 0;

    snprintf(number[0], sizeof(number[0]), "%d", (int)level);
    snprintf(number[1], sizeof(number[1]), "%d", line);
    add_field(iov, &n, &owned[k++], "MESSAGE", text);
    add_field(iov, &n, &owned[k++], "PRIORITY", number[0]);
    add_field(iov, &n, &owned[k++], "SYSLOG_IDENTIFIER", state.identifier);
    add_field(iov, &n, &owned[k++], "CODE_FILE", file);
    add_field(iov, &n, &owned[k++], "CODE_LINE", number[1]);
    add_field(iov, &n, &owned[k++], "CODE_FUNC", func);
    add_field(iov, &n, &owned[k++], "ERR_CODE", code);
    if (ctx) {
        add_field(iov, &n, &owned[k++], "CONTAINER", ctx->container);
        add_field(iov, &n, &owned[k++], "OPERATION_ID", ctx->operation_id);
        add_field(iov, &n, &owned[k++], "CLIENT", ctx->client);
    }
    (void)sd_journal_sendv(iov, n);
    for (size_t i = 0; i < k; i++)
        free(owned[i]);
}

static void to_stderr(enum log_level level, const struct log_ctx *ctx, const char *code, const char *text)
{
    static const char *const words[] = {
        [LOG_LEVEL_ERR] = "error", [LOG_LEVEL_WARNING] = "warning", [LOG_LEVEL_NOTICE] = "notice",
        [LOG_LEVEL_INFO] = "info", [LOG_LEVEL_DEBUG] = "debug",
    };
    struct timespec now;
    struct tm tm;
    char when[32];

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(when, sizeof(when), "%H:%M:%S", &tm);
    dprintf(STDERR_FILENO, "%s.%03ld %s[%d] %s: %s%s%s%s%s%s%s%s%s\n", when, now.tv_nsec / 1000000, state.identifier,
            (int)getpid(), words[level], text, ctx && ctx->container ? " CONTAINER=" : "",
            ctx && ctx->container ? ctx->container : "", ctx && ctx->operation_id ? " OPERATION_ID=" : "",
            ctx && ctx->operation_id ? ctx->operation_id : "", ctx && ctx->client ? " CLIENT=" : "",
            ctx && ctx->client ? ctx->client : "", code ? " ERR_CODE=" : "", code ? code : "");
}

static void emit(enum log_level level, const struct log_ctx *ctx, const char *file, int line, const char *func,
                 const char *code, const char *text)
{
    if (state.journal)
        to_journal(level, ctx, file, line, func, code, text);
    else
        to_stderr(level, ctx, code, text);
}

void log_write(enum log_level level, const struct log_ctx *ctx, const char *file, int line, const char *func,
               const char *fmt, ...)
{
    autofree char *text = NULL;
    va_list ap;

    if (level > state.max)
        return;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    va_end(ap);
    emit(level, ctx, file, line, func, NULL, text ? text : fmt);
}

void log_err_at(enum log_level level, const struct log_ctx *ctx, const char *file, int line, const char *func,
                struct err *e, const char *what)
{
    autofree char *text = NULL;

    if (!e)
        return;
    if (level <= state.max) {
        if (asprintf(&text, "%s: %s", what, err_message(e)) < 0)
            text = NULL;
        emit(level, ctx, file, line, func, err_code_name(e->code), text ? text : what);
    }
    err_free(e);
}
