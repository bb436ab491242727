// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/last_steps.hpp"

#include <catch2/catch_test_macros.hpp>
#include <limits>

using namespace hptrace;
using namespace std::chrono_literals;

namespace {

// A trace that ends, on a clock of its own: each step takes 5 ms, each wait 12.
struct EndingTrace {
    using Clock = LastSteps::Clock;

    int steps_left = 0;  // that can be done
    int waits_left = 0;  // before them, for the first state
    std::optional<std::chrono::milliseconds> stop_at{};
    std::chrono::milliseconds time = 0ms;

    bool take() {
        const LastSteps steps{.step =
                                  [this] {
                                      time += 5ms;
                                      if (waits_left > 0) {
                                          return LastSteps::Left::waiting;
                                      }
                                      return --steps_left > 0 ? LastSteps::Left::more : LastSteps::Left::nothing;
                                  },
                              .wait =
                                  [this] {
                                      time += 12ms;
                                      --waits_left;
                                  },
                              .stopped =
                                  [this] {
                                      return stop_at && *stop_at <= time ? std::optional(Clock::time_point(*stop_at))
                                                                         : std::nullopt;
                                  },
                              .now = [this] { return Clock::time_point(time); }};
        return steps.take(2s);
    }
};

constexpr int without_end = std::numeric_limits<int>::max();

}  // namespace

TEST_CASE("a stop soon after the start leaves time for what there is to be read and judged") {
    EndingTrace soon{.steps_left = 4, .waits_left = 3, .stop_at = 0ms};
    CHECK(soon.take());
    CHECK(soon.steps_left == 0);
}

TEST_CASE("a stop does not wait longer than its patience, whatever there is left") {
    EndingTrace very_many{.steps_left = without_end, .stop_at = 0ms};
    CHECK_FALSE(very_many.take());
    CHECK(very_many.time <= patience_after_stop + 5ms);
    EndingTrace no_state{.waits_left = without_end, .stop_at = 0ms};
    CHECK_FALSE(no_state.take());
    CHECK(no_state.time <= patience_after_stop + 17ms);
}

TEST_CASE("the end of the time that was asked for waits longer, unless a stop comes then") {
    EndingTrace ends{.steps_left = 100};
    CHECK(ends.take());
    EndingTrace never{.waits_left = without_end};
    CHECK_FALSE(never.take());
    CHECK(never.time >= 2s);
    EndingTrace stopped{.waits_left = without_end, .stop_at = 500ms};
    CHECK_FALSE(stopped.take());
    CHECK(stopped.time <= 500ms + patience_after_stop + 17ms);
}
