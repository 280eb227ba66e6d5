/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One nf_tables transaction: messages are collected, then sent at once, and take effect all or none. The kernel works
 * during the send, so every answer is there when it returns.
 */
#pragma once

#include <netinet/in.h>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include "netfilter/nl.h"

struct batch_label {
    const char *what; /* constant text: "the chain" */
    int slot;         /* 0: of the table */
};

struct batch {
    struct nl *nl;
    char *data;
    size_t len, size;
    size_t last; /* where the last message begins */
    uint32_t first_seq, count;
    struct batch_label *labels; /* one a message, to name the one that failed */
    int slot;                   /* label of the messages to come */
};

void batch_init(struct batch *b, struct nl *nl);
void batch_clear(struct batch *b);

/* Starts a message of enum nf_tables_msg_types in the inet family; there is room for BATCH_MESSAGE_MAX bytes. */
#define BATCH_MESSAGE_MAX 16384
struct nlmsghdr *batch_begin(struct batch *b, uint16_t type, uint16_t flags, const char *what);
void batch_end(struct batch *b, const struct nlmsghdr *message);

/* ERR_NOT_FOUND when something the batch refers to does not exist; else ERR_HOST. */
MUST_USE struct err *batch_send(struct batch *b);
