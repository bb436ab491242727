// SPDX-License-Identifier: GPL-2.0-or-later
// Findings as entries of the journal: quiet until something is wrong, then once, then how often.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/clock.hpp"
#include "output/journal_socket.hpp"
#include "output/output.hpp"
#include "output/reported.hpp"

namespace hptrace {

// One per kind of entry, never changed: deploy/systemd/hptrace.catalog explains them, people filter by them.
namespace message_id {
inline constexpr const char* started = "3a3afc0dcd0c49e28fd307baeefd581b";
inline constexpr const char* stopped = "cecde2d167ad43089fe70d7aba0e93dc";
inline constexpr const char* conflict = "ba4fbca9ea604e2f87ea24e52c908330";
inline constexpr const char* conflict_ended = "2090af34330c403286ee52e148d87355";
inline constexpr const char* hijacked = "213816b8a83545678e4e0b529fe019a5";
inline constexpr const char* rewritten = "9e02e61c5ce34a28826890b88e94362e";  // stale, foreign
inline constexpr const char* lost = "b9df4b56bc62462c88a25c6e40fb1996";
inline constexpr const char* gap = "e1b0317b9f2a4d6f8550cfb4a4073f8c";
inline constexpr const char* unread = "c86ef1c6f63a4c2cb0da32f880b61e46";
inline constexpr const char* leaked = "a18a117e1f49439092652f4e9cc92b54";
}  // namespace message_id

struct JournalOptions {
    std::chrono::nanoseconds repeat = std::chrono::seconds(60);  // one entry per conflict and so long, after the first
    std::uint32_t netns = 0;                                     // of any other it is said which one
    std::function<std::uint64_t()> boot_ns = boot_clock_ns;
    ClockOffset clock_offset = clock_offset_now;
};

// The socket must outlive the output. Connections without an alarm are left to the counts at the end.
std::unique_ptr<Output> make_journal_output(JournalSocket& socket, Reported reported, JournalOptions options);

}  // namespace hptrace
