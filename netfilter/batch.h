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
#include "netfilter/rule.h"

/* What a message is about, so that a refusal names it. */
struct batch_subject {
    int slot; /* 0: the table */
    enum rule_direction direction;
    size_t rule; /* counted from 1 in the user's list of that direction; 0: no rule of a user */
};

struct batch_label {
    const char *what; /* constant text: "a chain" */
    struct batch_subject of;
};

struct batch {
    struct nl *nl;
    char *data;
    size_t len, size;
    size_t last; /* where the last message begins */
    uint32_t first_seq, count;
    struct batch_label *labels; /* one a message, to name the one that failed */
    struct batch_subject of;    /* what the messages to come are about */
};

void batch_init(struct batch *b, struct nl *nl);
void batch_clear(struct batch *b);

/* Starts a message of enum nf_tables_msg_types in the inet family; there is room for BATCH_MESSAGE_MAX bytes. */
#define BATCH_MESSAGE_MAX 16384
struct nlmsghdr *batch_begin(struct batch *b, uint16_t type, uint16_t flags, const char *what);
void batch_end(struct batch *b, const struct nlmsghdr *message);

/* ERR_NOT_FOUND when something the batch refers to does not exist; else ERR_HOST. When the kernel refuses a user's
 * rule, `field` is where it stands, "egress[3]"; when it refuses anything of a container, `data` has its "slot". */
MUST_USE struct err *batch_send(struct batch *b);
