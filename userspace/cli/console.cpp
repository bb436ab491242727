// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/console.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include <optional>

namespace hptrace {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto look_interval = 10ms;  // at signals, while a reader is waited for

// A terminal, or `2>&1`.
bool same_file(int one, int other) {
    struct stat first{};
    struct stat second{};
    return ::fstat(one, &first) == 0 && ::fstat(other, &second) == 0 && first.st_dev == second.st_dev &&
           first.st_ino == second.st_ino;
}

// Since when a writer's reader has taken nothing.
class Progress {
public:
    explicit Progress(const QueuedWriter& writer) : writer_(&writer), queued_(writer.queued()) {}

    Clock::duration none_for() {
        if (const auto queued = writer_->queued(); queued != queued_) {
            queued_ = queued;
            last_ = Clock::now();
        }
        return Clock::now() - last_;
    }

private:
    const QueuedWriter* writer_;
    std::size_t queued_;
    Clock::time_point last_ = Clock::now();
};

void settle_one(QueuedWriter& writer, Progress progress, const Console::Stopped& stopped) {
    std::optional<Clock::time_point> end;
    while (!writer.wait_written(look_interval)) {
        if (!stopped()) {
            continue;
        }
        end = end.value_or(Clock::now() + Console::longest_settle);
        if (progress.none_for() >= Console::patience || Clock::now() >= *end) {
            writer.give_up();
        }
    }
}

}  // namespace

Result<Console> Console::start(int out, int notes, std::size_t limit) {
    auto to_out = QueuedWriter::start(out, limit);
    if (!to_out) {
        return std::unexpected(to_out.error());
    }
    if (same_file(out, notes)) {
        return Console(*std::move(to_out), nullptr);
    }
    auto to_notes = QueuedWriter::start(notes, limit);
    if (!to_notes) {
        return std::unexpected(to_notes.error());
    }
    return Console(*std::move(to_out), *std::move(to_notes));
}

void Console::note(std::string_view text) {
    (notes_ ? *notes_ : *out_).line(fmt::format("hptrace: {}", text));
}

void Console::settle(const Stopped& stopped) {
    const Progress out(*out_);
    const auto notes =
        notes_ ? std::optional<Progress>(*notes_) : std::nullopt;  // who reads neither is waited for once
    settle_one(*out_, out, stopped);
    if (notes) {
        settle_one(*notes_, *notes, stopped);
    }
}

}  // namespace hptrace
