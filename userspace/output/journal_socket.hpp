// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

#include "base/fd.hpp"

namespace hptrace {

// One entry of the journal in its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).
class JournalEntry {
public:
    // Priorities of syslog(3).
    enum class Priority : std::uint8_t { warning = 4, notice = 5, info = 6 };

    // message_id: 32 hexadecimal digits, one per kind of entry (deploy/systemd/hptrace.catalog).
    JournalEntry(Priority priority, std::string_view message_id, std::string_view message);

    // An empty value is left out. name: capital letters, digits and underscores. What is no printable ASCII is escaped
    // (escape()), so a value is one line.
    JournalEntry& add(std::string_view name, std::string_view value);
    JournalEntry& add(std::string_view name, std::uint64_t value);

    [[nodiscard]] const std::string& data() const { return data_; }

private:
    std::string data_;
};

// Hands entries to systemd-journald and never waits for it, which libsystemd cannot: sd_journal_sendv(3) says nothing
// of an absent journald and waits for one that does not read. What journald does not take is kept within a bound and
// sent later, in order; what exceeds the bound is counted.
class JournalSocket {
public:
    static constexpr const char* default_path = "/run/systemd/journal/socket";
    static constexpr std::size_t most_kept_bytes = 1U << 20U;

    explicit JournalSocket(std::string path = default_path);

    void send(const JournalEntry& entry);
    // Tries again to send what is kept; to be called at every turn.
    void flush();

    // Entries that wait for journald.
    [[nodiscard]] std::size_t waiting() const { return kept_.size(); }
    // Entries that were given up, since the start.
    [[nodiscard]] std::uint64_t dropped() const { return dropped_; }
    // errno of the last entry that was not taken; 0: it was.
    [[nodiscard]] int problem() const { return problem_; }

private:
    enum class Sent : std::uint8_t { yes, later, never };
    Sent try_send(const std::string& data);

    std::string path_;
    Fd fd_;
    std::deque<std::string> kept_;
    std::size_t kept_bytes_ = 0;
    std::uint64_t dropped_ = 0;
    int problem_ = 0;
};

}  // namespace hptrace
