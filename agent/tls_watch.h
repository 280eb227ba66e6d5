/* SPDX-License-Identifier: Apache-2.0 */
/* Looks whether the certificates and the revocation list of mTLS are still good, and tells before they end. */
#pragma once

#include "agent/agent.h"

struct tls_watch;

/* a->tls is there. */
struct tls_watch *tls_watch_start(struct agent *a);
void tls_watch_close(struct tls_watch *w, void *owner, void (*closed)(void *owner));
/* After a reload: looks at once. */
void tls_watch_look(struct tls_watch *w);
/* For health: NULL without a TLS listener. */
json_t *tls_watch_json(const struct agent *a);
