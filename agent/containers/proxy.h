/* SPDX-License-Identifier: Apache-2.0 */
/* Containers that are proxies: record.host "proxy", true. Loop thread only. */
#pragma once

#include "agent/agent.h"

/* Whether it may open connections to other containers with its clients' addresses. */
bool proxy_is(const struct container *c);
