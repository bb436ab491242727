// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace hptrace {

// CLOCK_REALTIME minus CLOCK_BOOTTIME, in nanoseconds: turns the time of a record into wall-clock time.
using ClockOffset = std::function<std::int64_t()>;
std::int64_t clock_offset_now();

// "2026-01-31T10:00:00.123456789Z" from nanoseconds since 1970.
std::string utc_time(std::int64_t real_ns);
// "10:00:00.123", local time.
std::string local_time(std::int64_t real_ns);

}  // namespace hptrace
