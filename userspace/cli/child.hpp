// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"

namespace hptrace {

// The COMMAND of `hptrace -- COMMAND ...`, with the signal mask and dispositions of an ordinary process and, of all
// descriptors, standard input, output and error.
class Child {
public:
    // Searches PATH. Fails if it cannot be executed.
    static Result<Child> start(const std::vector<std::string>& command);

    // "exited with status 0", "was killed by signal 9" once it has ended; nothing while it runs.
    std::optional<std::string> ended();
    void send(int signal_number) const;
    [[nodiscard]] pid_t pid() const { return pid_; }

private:
    explicit Child(pid_t pid) : pid_(pid) {}
    pid_t pid_;
};

}  // namespace hptrace
