/* SPDX-License-Identifier: Apache-2.0 */
/* Two clocks: wall time for records, monotonic time for durations. */
#pragma once

#include <stdint.h>

int64_t clock_wall_ms(void);
int64_t clock_mono_ms(void);
int64_t clock_mono_us(void);
