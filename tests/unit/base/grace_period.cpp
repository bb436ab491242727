// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/grace_period.hpp"

#include <catch2/catch_test_macros.hpp>
#include <cerrno>

using namespace hptrace;

TEST_CASE("a grace period is waited for, or it is said why not") {
    const auto waited = wait_for_grace_period();
    if (!waited) {
        const auto code = waited.error().code;
        CHECK((code == EINVAL || code == ENOSYS || code == EPERM));
    }
}
