/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container's IPv6 address is its own by construction, but the kernel looks for a second owner for up to two
 * seconds (duplicate address detection, RFC 4862 section 5.4), and a connection begun meanwhile takes the link-local
 * address as its source and never succeeds. liblxc has no key for it, so the address is replaced by one that is
 * exempt (IFA_F_NODAD).
 */
#pragma once

#include <netinet/in.h>
#include <sys/types.h>

#include "base/err.h"

#define ADDRESS_INTERFACE "eth0"

/* Replaces `address`/128 of the init's ADDRESS_INTERFACE in one message. The calling process returns to its own network
 * namespace. */
MUST_USE struct err *address_use_at_once(pid_t init, const struct in6_addr *address);
