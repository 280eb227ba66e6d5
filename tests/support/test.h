/* SPDX-License-Identifier: Apache-2.0 */
/* What every unit test includes: cmocka with what it needs, and checks of struct err. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"

/* The call succeeds. */
#define assert_ok(call)                                                                                                \
    do {                                                                                                               \
        autoerr assert_e_ = (call);                                                                                    \
        if (assert_e_)                                                                                                 \
            fail_msg("%s: %s", #call, err_message(assert_e_));                                                         \
    } while (0)

/* The call fails with the code. */
#define assert_err(call, wanted)                                                                                       \
    do {                                                                                                               \
        autoerr assert_e_ = (call);                                                                                    \
        if (!assert_e_)                                                                                                \
            fail_msg("%s: succeeded", #call);                                                                          \
        else if (assert_e_->code != (wanted))                                                                          \
            fail_msg("%s: %s: %s", #call, err_code_name(assert_e_->code), err_message(assert_e_));                     \
    } while (0)

/* The call fails with ERR_INVALID about the field. */
#define assert_err_field(call, wanted)                                                                                 \
    do {                                                                                                               \
        autoerr assert_e_ = (call);                                                                                    \
        if (!assert_e_)                                                                                                \
            fail_msg("%s: succeeded", #call);                                                                          \
        assert_int_equal(assert_e_->code, ERR_INVALID);                                                                \
        assert_non_null(assert_e_->field);                                                                             \
        assert_string_equal(assert_e_->field, wanted);                                                                 \
    } while (0)
