/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container's IPv6 address is its own by construction, but the kernel looks for a second owner for up to two
 * seconds (duplicate address detection, RFC 4862 section 5.4), and a connection begun meanwhile takes the link-local
 * address as its source and never succeeds. liblxc has no key for it, so the address is replaced by one that is
 * exempt (IFA_F_NODAD).
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

#define ADDRESS_INTERFACE "eth0"

/* Replaces `address`/128 of the init's ADDRESS_INTERFACE in one message. The calling process returns to its own network
 * namespace. */
MUST_USE struct err *address_use_at_once(pid_t init, const struct in6_addr *address);

/* `address`/128 and the default route by `gateway` are there, or not; either can be so already. The calling process
 * returns to its own network namespace. */
MUST_USE struct err *address_ipv6(pid_t init, const struct in6_addr *address, const struct in6_addr *gateway,
                                  bool wanted);

/* Permanent neighbour entries of the gateways, two addresses of one interface, NULL for none: "169.254.1.1", "fe80::1",
 * "02:6e:64:00:00:01". The kernel's tables of neighbours are of the whole host and all its containers: when another
 * container has filled them, this one does not need a new entry. ERR_INVALID names the text that is wrong. */
MUST_USE struct err *address_know_gateways(pid_t init, const char *gateway4, const char *gateway6, const char *mac);
