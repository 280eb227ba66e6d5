/* SPDX-License-Identifier: Apache-2.0 */
/* The small languages inside a rule: lists of networks and lists of ports. */
#pragma once

#include "netfilter/rule.h"

/* "10.0.0.5/8, 192.0.2.1": *text is replaced by its normal form; *ret gets merged ranges, none when everything is
 * meant. */
MUST_USE struct err *rule_parse_networks(const char *field, char **text, struct rule_range **ret, size_t *ret_count);
/* "80", "80-90", "80,443"; 1..65535. */
MUST_USE struct err *rule_parse_ports(const char *field, char **text, struct rule_range **ret, size_t *ret_count);
/* A number 0..255. */
MUST_USE struct err *rule_parse_icmp(const char *field, char **text, int *ret);
