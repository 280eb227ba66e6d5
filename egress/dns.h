/* SPDX-License-Identifier: Apache-2.0 */
/* What has to be known of DNS messages (RFC 1035, RFC 6891) to carry them from UDP to TCP and back. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DNS_QUERY_MAX 4096
#define DNS_MESSAGE_MAX 65535

/* A query with exactly one question, and nothing shorter or longer than a query can be. */
bool dns_is_query(const uint8_t *message, size_t len);
uint16_t dns_id(const uint8_t *message);
void dns_set_id(uint8_t *message, uint16_t id);
/* How long an answer over UDP may be: 512, or what the query's OPT record says. */
size_t dns_answer_max(const uint8_t *query, size_t len);
/* An answer without records to a query: into ret (DNS_QUERY_MAX bytes); its length. */
size_t dns_truncated(const uint8_t *query, size_t len, uint8_t *ret); /* "ask again over TCP" */
size_t dns_failure(const uint8_t *query, size_t len, uint8_t *ret);   /* SERVFAIL */
