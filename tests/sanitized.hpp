// SPDX-License-Identifier: BSD-3-Clause
// HOFT_TEST_SANITIZED: whether a sanitizer is compiled in that replaces functions of the C library itself.
#pragma once

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HOFT_TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HOFT_TEST_SANITIZED 1
#endif
#endif
