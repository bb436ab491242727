// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>

namespace hptrace {

// Collects what libbpf says in this thread while it lives, instead of stderr: it says much about attempts that may
// fail. LIBBPF_LOG_LEVEL in the environment (libbpf's own variable) shows it on stderr as well.
class LibbpfLog {
public:
    LibbpfLog();
    LibbpfLog(const LibbpfLog&) = delete;
    LibbpfLog& operator=(const LibbpfLog&) = delete;
    LibbpfLog(LibbpfLog&&) = delete;
    LibbpfLog& operator=(LibbpfLog&&) = delete;
    ~LibbpfLog();

    // The line that says most about the failure; empty if there was none.
    [[nodiscard]] std::string reason() const;

private:
    std::string text_;
};

// The reason in a log of libbpf and the verifier. Apart for the tests.
std::string find_reason(const std::string& log);

}  // namespace hptrace
