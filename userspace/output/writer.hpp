// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <atomic>
#include <optional>
#include <string_view>

#include "base/error.hpp"
#include "output/line.hpp"

namespace hptrace {

// Writes whole lines to a descriptor, each at once, so that a reader of a pipe never waits for a buffer to fill.
// SIGPIPE must be ignored. After the first failure nothing more is written. Flags of the descriptor stay as they are:
// they are also those of whoever hptrace has it from.
class Writer {
public:
    explicit Writer(int fd) : fd_(fd) {}
    Writer(const Writer&) = delete;
    Writer(Writer&&) = delete;
    Writer& operator=(const Writer&) = delete;
    Writer& operator=(Writer&&) = delete;
    virtual ~Writer() = default;

    void line(const Line& line);

    // Notices a reader that went away before there is anything to write.
    void check_reader();

    [[nodiscard]] bool ok() const { return failure_ == 0; }
    // The reader of a pipe has gone (`| head`): no error, but nothing left to do.
    [[nodiscard]] bool closed() const { return failure_ == EPIPE; }
    // Any other failure: disk full, stdout closed.
    [[nodiscard]] std::optional<Error> error() const;

protected:
    // Takes a line with its end. Here: it is written when this returns, however long its reader takes.
    virtual void put(std::string_view bytes);

    // Bytes written, 1 or more. 0: interrupted by a signal, or failed, which ok() says.
    std::size_t write_some(std::string_view bytes);

private:
    int fd_;
    std::atomic<int> failure_ = 0;  // errno of the first write that failed
};

}  // namespace hptrace
