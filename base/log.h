/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structured logging: to the journal when it is there (stderr is a journal stream or the socket exists), else one line
 * on stderr with the same fields. Text is constant and short, data goes into fields, so that
 * `journalctl CONTAINER=<id>` works. Never secrets, never bodies. Thread-safe.
 */
#pragma once

#include "base/err.h"

enum log_level {
    LOG_LEVEL_ERR = 3,
    LOG_LEVEL_WARNING = 4,
    LOG_LEVEL_NOTICE = 5,
    LOG_LEVEL_INFO = 6,
    LOG_LEVEL_DEBUG = 7
};

struct log_ctx {
    const char *container;    /* container id, or NULL */
    const char *operation_id; /* or NULL */
    const char *client;       /* who asked, or NULL */
};

/* Once at start. `to_stderr` forces stderr even when a journal is there (tests, --debug). */
void log_open(const char *identifier, enum log_level max, bool to_stderr);

void log_write(enum log_level level, const struct log_ctx *ctx, const char *file, int line, const char *func,
               const char *fmt, ...) PRINTF_LIKE(6, 7);

#define log_at(level, ctx, ...) log_write((level), (ctx), __FILE__, __LINE__, __func__, __VA_ARGS__)
#define log_error(ctx, ...) log_at(LOG_LEVEL_ERR, ctx, __VA_ARGS__)
#define log_warning(ctx, ...) log_at(LOG_LEVEL_WARNING, ctx, __VA_ARGS__)
#define log_notice(ctx, ...) log_at(LOG_LEVEL_NOTICE, ctx, __VA_ARGS__)
#define log_info(ctx, ...) log_at(LOG_LEVEL_INFO, ctx, __VA_ARGS__)
#define log_debug(ctx, ...) log_at(LOG_LEVEL_DEBUG, ctx, __VA_ARGS__)

/* Logs "what: message" and frees e. The consumer at the top of a chain. */
#define log_err(ctx, level, e, what) log_err_at((level), (ctx), __FILE__, __LINE__, __func__, (e), (what))
void log_err_at(enum log_level level, const struct log_ctx *ctx, const char *file, int line, const char *func,
                struct err *e, const char *what);
