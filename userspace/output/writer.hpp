// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <optional>
#include <string_view>

#include "base/error.hpp"

namespace hptrace {

// Writes whole lines to a descriptor, each at once, so that a reader of a pipe never waits for a buffer to fill.
// SIGPIPE must be ignored. After the first failure nothing more is written.
class Writer {
public:
    explicit Writer(int fd) : fd_(fd) {}

    void line(std::string_view text);

    // Notices a reader that went away before there is anything to write.
    void check_reader();

    [[nodiscard]] bool ok() const { return !closed_ && !error_; }
    // The reader of a pipe has gone (`| head`): no error, but nothing left to do.
    [[nodiscard]] bool closed() const { return closed_; }
    // Any other failure: disk full, stdout closed.
    [[nodiscard]] const std::optional<Error>& error() const { return error_; }

private:
    int fd_;
    bool closed_ = false;
    std::optional<Error> error_;
};

}  // namespace hptrace
