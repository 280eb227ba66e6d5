/* SPDX-License-Identifier: Apache-2.0 */
/* The head that datagrams have between a SOCKS5 proxy and its client (RFC 1928, 7). Pure. */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SOCKS5_UDP_HEAD_MAX 22

/* Of a datagram for target (AF_INET or AF_INET6) into ret; its length. */
size_t socks5_udp_head(const struct sockaddr *target, uint8_t ret[SOCKS5_UDP_HEAD_MAX]);
/* The length of the head of a datagram from a proxy, and from whom it is; 0: it has none, is a fragment, or names its
 * sender otherwise than by an address. */
size_t socks5_udp_parse(const uint8_t *data, size_t len, struct sockaddr_storage *ret_from);
/* The address and port of an answer or a head, at the byte that says of which type it is; its length with this byte, 0:
 * it is cut or no address. */
size_t socks5_address(const uint8_t *data, size_t len, struct sockaddr_storage *ret);
