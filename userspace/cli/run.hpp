// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "cli/options.hpp"
#include "output/writer.hpp"

namespace hptrace {

// hptrace: does what the arguments (without the program's name) ask, returns its exit status.
int run(std::vector<std::string> arguments);

// The commands. They return the exit status; everything they say was said.
int run_trace(const TraceOptions& options);
int run_audit(const AuditOptions& options);
int run_doctor(const DoctorOptions& options);

// Exit statuses of the design.
inline constexpr int exit_clean = 0;
inline constexpr int exit_failure = 1;
inline constexpr int exit_usage = 2;
inline constexpr int exit_hijack = 3;
inline constexpr int exit_unproven = 4;

// "hptrace: text" on stderr.
void note(std::string_view text);
// The same for an error; returns exit_failure.
int fail(const Error& error);
// After the last line: a failed write (not a reader that went away) makes it exit_failure, and is said.
int finish(const Writer& writer, int status);

}  // namespace hptrace
