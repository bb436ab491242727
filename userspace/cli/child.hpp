// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"

namespace hptrace {

// Descriptors of this process, in order: all that are open, whoever opened them.
std::vector<int> open_descriptors();

// The COMMAND of `hptrace -- COMMAND ...`, with the signals of an ordinary process: none blocked, SIGPIPE and SIGCHLD
// with their default dispositions, the others ignored if hptrace itself was started so (nohup), as the shell would have
// it.
class Child {
public:
    // Searches PATH. Fails if it cannot be executed. inherited: open_descriptors() when hptrace itself was started, for
    // the command has these and no others: libraries open some without O_CLOEXEC.
    static Result<Child> start(const std::vector<std::string>& command, const std::vector<int>& inherited);

    // "exited with status 0", "was killed by signal 9" once it has ended; nothing while it runs.
    std::optional<std::string> ended();
    void send(int signal_number) const;
    [[nodiscard]] pid_t pid() const { return pid_; }

private:
    explicit Child(pid_t pid) : pid_(pid) {}
    pid_t pid_;
};

}  // namespace hptrace
