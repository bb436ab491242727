// SPDX-License-Identifier: GPL-2.0-or-later
#include "output/time.hpp"

#include <fmt/format.h>

#include <ctime>

namespace hptrace {

namespace {

constexpr std::int64_t second_ns = 1'000'000'000;

std::int64_t now(clockid_t clock) {
    timespec time{};
    static_cast<void>(clock_gettime(clock, &time));
    return time.tv_sec * second_ns + time.tv_nsec;
}

}  // namespace

std::int64_t clock_offset_now() {
    return now(CLOCK_REALTIME) - now(CLOCK_BOOTTIME);
}

std::string utc_time(std::int64_t real_ns) {
    const std::time_t seconds = real_ns / second_ns;
    std::tm parts{};
    static_cast<void>(gmtime_r(&seconds, &parts));
    return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z", parts.tm_year + 1900, parts.tm_mon + 1,
                       parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec, real_ns % second_ns);
}

std::string local_time(std::int64_t real_ns) {
    const std::time_t seconds = real_ns / second_ns;
    std::tm parts{};
    static_cast<void>(localtime_r(&seconds, &parts));
    return fmt::format("{:02}:{:02}:{:02}.{:03}", parts.tm_hour, parts.tm_min, parts.tm_sec,
                       real_ns % second_ns / 1'000'000);
}

}  // namespace hptrace
