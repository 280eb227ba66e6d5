/* SPDX-License-Identifier: Apache-2.0 */
/* The log of clients that were not let in: who and why, and only a number when they are many. Loop thread only. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum { REFUSED_ADDRESS_SIZE = 64 };

struct refused_log {
    uint64_t window_ms; /* when the time began for which entries are counted */
    size_t entries, left_out;
};

/* "2001:db8::1 port 4711" */
void refused_address(const struct sockaddr_storage *from, char ret[REFUSED_ADDRESS_SIZE]);
/* subject may be NULL: no certificate came. */
void refused_add(struct refused_log *log, uint64_t now_ms, const char *address, const char *subject,
                 const char *reason);
/* From time to time: says how many entries were left out. */
void refused_sum_up(struct refused_log *log, uint64_t now_ms);
