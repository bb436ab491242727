// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch_test_macros.hpp>

#include "capture/capture.hpp"

using namespace hptrace;

TEST_CASE("what was not rewritten is what neither nf_nat nor ip_vs changed") {
    CHECK(CaptureCounters{}.not_rewritten() == 0);
    CHECK(CaptureCounters{.seen = 10, .rewritten = 3}.not_rewritten() == 7);
    // Those that ip_vs rewrites are among the seen.
    CHECK(CaptureCounters{.seen = 10, .rewritten = 3, .ipvs = 5}.not_rewritten() == 2);
    CHECK(CaptureCounters{.seen = 10, .ipvs = 5, .ipvs_not_rewritten = 4}.not_rewritten() == 9);
    // A hundred packets of one flow are no hundred connections.
    CHECK(CaptureCounters{.seen = 2, .ipvs = 101, .ipvs_one_packet = 100}.not_rewritten() == 1);
    // Without nf_nat.
    CHECK(CaptureCounters{.ipvs = 5, .ipvs_not_rewritten = 4}.not_rewritten() == 4);
}
