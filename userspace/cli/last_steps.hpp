// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>

namespace hptrace {

// A stop is answered within 200 ms. So long of that a trace may still do what was left to do when it came.
inline constexpr std::chrono::milliseconds patience_after_stop{100};

// What is left to do at the end of a trace: connections that exist already, and decisions that wait for a state.
struct LastSteps {
    using Clock = std::chrono::steady_clock;

    enum class Left : std::uint8_t {
        nothing,
        more,     // that can be done at once
        waiting,  // for something that is read meanwhile
    };

    std::function<Left()> step;  // does some milliseconds' work
    std::function<void()> wait;  // until something has come, or for some milliseconds
    std::function<std::optional<Clock::time_point>()>
        stopped;  // when a signal has asked for the end; nothing: none has
    std::function<Clock::time_point()> now = Clock::now;

    // Takes steps until nothing is left; true: so it is. False: a stop came more than patience_after_stop ago, or there
    // was none and it took longer than `longest`.
    [[nodiscard]] bool take(std::chrono::nanoseconds longest) const;
};

}  // namespace hptrace
