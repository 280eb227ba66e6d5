/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory that clients can make this program use: a budget for the bodies of requests, over all connections and for
 * each client, and giving back to the kernel what a crowd of connections left in the heap. Loop thread only.
 */
#pragma once

#include <stddef.h>
#include <uv.h>

struct memory;

/* max: bytes of bodies that are held at the same time; client_max: the same for one client. */
struct memory *memory_start(uv_loop_t *loop, size_t max, size_t client_max);
/* No heap is looked through any more. Returns and churn are still counted, until memory_free. */
void memory_close(struct memory *m, void *owner, void (*closed)(void *owner));
void memory_free(struct memory *m); /* closed; may be NULL */

enum memory_verdict { MEMORY_GRANTED, MEMORY_FULL, MEMORY_CLIENT_FULL };
/* `more` bytes for a client that holds `held` already. */
enum memory_verdict memory_take(struct memory *m, size_t held, size_t more);
void memory_return(struct memory *m, size_t bytes);
/* So many connections have ended: when there is quiet after many, the heap's free pages go back to the kernel. */
void memory_churn(struct memory *m, size_t connections);
