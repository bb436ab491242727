// SPDX-License-Identifier: GPL-2.0-or-later
#include "output/journal_socket.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <utility>

#include "base/unix_datagram.hpp"
#include "output/escape.hpp"

namespace hptrace {

JournalEntry::JournalEntry(Priority priority, std::string_view message_id, std::string_view message) {
    add("MESSAGE", message);
    add("PRIORITY", static_cast<std::uint64_t>(priority));
    add("MESSAGE_ID", message_id);
    add("SYSLOG_IDENTIFIER", "hptrace");
}

JournalEntry& JournalEntry::add(std::string_view name, std::string_view value) {
    if (value.empty()) {
        return *this;
    }
    data_ += name;
    data_ += '=';
    data_ += escape(value);
    data_ += '\n';
    return *this;
}

JournalEntry& JournalEntry::add(std::string_view name, std::uint64_t value) {
    return add(name, fmt::format("{}", value));
}

JournalSocket::JournalSocket(std::string path) : path_(std::move(path)) {}

void JournalSocket::send(const JournalEntry& entry) {
    flush();
    if (kept_.empty()) {
        switch (try_send(entry.data())) {
            case Sent::yes:
                return;
            case Sent::never:
                ++dropped_;
                return;
            case Sent::later:
                break;
        }
    }
    if (kept_bytes_ + entry.data().size() > most_kept_bytes) {
        ++dropped_;
        return;
    }
    kept_bytes_ += entry.data().size();
    kept_.push_back(entry.data());
}

void JournalSocket::flush() {
    while (!kept_.empty()) {
        const auto sent = try_send(kept_.front());
        if (sent == Sent::later) {
            return;
        }
        dropped_ += sent == Sent::never ? 1 : 0;
        kept_bytes_ -= kept_.front().size();
        kept_.pop_front();
    }
}

JournalSocket::Sent JournalSocket::try_send(const std::string& data) {
    if (!fd_) {
        fd_ = unix_datagram_socket();
    }
    // To the path, not connected: a journald that comes later has another socket there.
    problem_ = send_unix_datagram(fd_.get(), path_, data);
    if (problem_ == 0) {
        return Sent::yes;
    }
    return problem_ == EMSGSIZE ? Sent::never : Sent::later;
}

}  // namespace hptrace
