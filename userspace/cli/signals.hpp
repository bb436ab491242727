// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <optional>

#include "base/error.hpp"
#include "base/fd.hpp"

namespace hptrace {

// SIGINT, SIGTERM and SIGCHLD as something to read, instead of handlers that interrupt anything anywhere.
class Signals {
public:
    // Blocks them for this thread, and ignores SIGPIPE: a closed stdout is a write error.
    static Result<Signals> start();

    // The next one that arrived; nothing: none.
    std::optional<int> next();
    [[nodiscard]] int descriptor() const { return fd_.get(); }

private:
    explicit Signals(Fd fd) : fd_(std::move(fd)) {}
    Fd fd_;
};

}  // namespace hptrace
