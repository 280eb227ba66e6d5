/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "agent/http/wire.h"

/* Bytes as they are. */
struct wire wire_plain(int fd);
