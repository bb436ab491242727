// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string_view>
#include <utility>

#include "base/error.hpp"
#include "output/queued_writer.hpp"

namespace hptrace {

// stdout and stderr of a trace. A line for them never makes it wait, though nobody reads.
class Console {
public:
    // Looks at the signals: has a stop come?
    using Stopped = std::function<bool()>;

    static constexpr std::chrono::milliseconds patience{100};         // of a stop, with a reader that does not read
    static constexpr std::chrono::milliseconds longest_settle{5000};  // of a stop, with one that reads slowly

    static Result<Console> start(int out = STDOUT_FILENO, int notes = STDERR_FILENO,
                                 std::size_t limit = QueuedWriter::default_limit);

    // stdout.
    [[nodiscard]] QueuedWriter& out() { return *out_; }
    [[nodiscard]] const QueuedWriter& out() const { return *out_; }

    // "hptrace: text" on stderr. Where that is the same file as stdout, the order of lines is that of the calls.
    void note(std::string_view text);

    // Waits until all is written, however long its readers take, or can never be. A stop ends that: who takes nothing
    // is given up within `patience`, and lines for it are lost.
    void settle(const Stopped& stopped);

private:
    Console(std::unique_ptr<QueuedWriter> out, std::unique_ptr<QueuedWriter> notes)
        : out_(std::move(out)), notes_(std::move(notes)) {}

    std::unique_ptr<QueuedWriter> out_;
    std::unique_ptr<QueuedWriter> notes_;  // null: out_ is where they go
};

}  // namespace hptrace
