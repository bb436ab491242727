// SPDX-License-Identifier: GPL-2.0-or-later
#include "capture/libbpf_log.hpp"

#include <bpf/libbpf.h>

#include <array>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace hptrace {

namespace {

// libbpf's callback takes no context.
thread_local std::string* current_log = nullptr;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)

int collect(libbpf_print_level level, const char* format, va_list arguments) {
    if (level == LIBBPF_DEBUG) {
        return 0;
    }
    std::array<char, 4096> line{};
    va_list copy;
    va_copy(copy, arguments);
    const int length = std::vsnprintf(line.data(), line.size(), format, copy);
    va_end(copy);
    if (current_log != nullptr && length > 0) {
        current_log->append(line.data());
    }
    if (std::getenv("LIBBPF_LOG_LEVEL") != nullptr) {  // NOLINT(concurrency-mt-unsafe)
        static_cast<void>(std::vfprintf(stderr, format, arguments));
    }
    return length;
}

std::string_view trim(std::string_view text) {
    const auto first = text.find_first_not_of(" \t");
    const auto last = text.find_last_not_of(" \t");
    return first == std::string_view::npos ? std::string_view{} : text.substr(first, last - first + 1);
}

// That loading failed is known, and the errno says as much as libbpf does. Its guess at the cause of EPERM is about
// kernels before 5.11, where the limit is lifted anyway.
bool says_nothing(std::string_view line) {
    return line.contains("program load failed") || line.contains("failed to load") ||
           line.contains("try raising 'ulimit -l'");
}

}  // namespace

LibbpfLog::LibbpfLog() {
    libbpf_set_print(collect);
    current_log = &text_;
}

// The callback stays: without a log it is silent.
LibbpfLog::~LibbpfLog() {
    current_log = nullptr;
}

std::string LibbpfLog::reason() const {
    return find_reason(text_);
}

std::string find_reason(const std::string& log) {
    // The verifier's complaint is its last line before the statistics; else libbpf's first complaint is the cause of
    // all others.
    std::string_view first;
    std::string_view previous;
    bool in_verifier_log = false;
    std::string_view rest = log;
    while (!rest.empty()) {
        const auto end = rest.find('\n');
        const auto line = trim(rest.substr(0, end));
        rest = end == std::string_view::npos ? std::string_view{} : rest.substr(end + 1);
        if (line.contains("BEGIN PROG LOAD LOG")) {
            in_verifier_log = true;
            continue;
        }
        if (in_verifier_log && (line.starts_with("processed ") || line.contains("END PROG LOAD LOG"))) {
            break;
        }
        if (!line.empty() && !says_nothing(line)) {
            previous = line;
            if (first.empty()) {
                first = line;
            }
        }
    }
    auto reason = in_verifier_log ? previous : first;
    if (reason.starts_with("libbpf: ")) {
        reason.remove_prefix(8);
    }
    return std::string(reason);
}

}  // namespace hptrace
