// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <ctime>

namespace hptrace {

// CLOCK_BOOTTIME in nanoseconds: the clock of bpf_ktime_get_boot_ns(), which the records carry.
inline std::uint64_t boot_clock_ns() {
    timespec now{};
    static_cast<void>(clock_gettime(CLOCK_BOOTTIME, &now));  // fails only for clocks that do not exist
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(now.tv_nsec);
}

// CLOCK_REALTIME in nanoseconds: the clock of files' times.
inline std::int64_t real_clock_ns() {
    timespec now{};
    static_cast<void>(clock_gettime(CLOCK_REALTIME, &now));
    return static_cast<std::int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

}  // namespace hptrace
