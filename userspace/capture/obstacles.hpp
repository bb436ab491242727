// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <optional>
#include <string>

#include "base/error.hpp"

namespace hptrace {

// What this process or kernel lacks for any tracing at all, known before anything is tried: capabilities, BTF.
std::optional<Error> find_obstacle();

// What is likely behind a refusal (EPERM, EACCES) of a process that has the capabilities; empty if nothing is known.
std::string explain_refusal();

// Kernel lockdown is at "confidentiality" (/sys/kernel/security/lockdown): no kprobes, no reads of kernel memory.
bool forbids_reading_memory();

// The mode in brackets of /sys/kernel/security/lockdown ("none [integrity] confidentiality"); empty if there is none.
std::string lockdown_mode(const std::string& text);

}  // namespace hptrace
