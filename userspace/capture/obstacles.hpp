// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <optional>
#include <string>

#include "base/error.hpp"

namespace hptrace {

// What this process or kernel lacks for any tracing at all, known before anything is tried: capabilities, BTF.
std::optional<Error> find_obstacle();

// This process has the capability (CAP_NET_ADMIN and the like, capabilities(7)), in effect.
bool has_capability(unsigned capability);

// What is likely behind a refusal (EPERM, EACCES) of a process that has the capabilities; empty if nothing is known.
std::string explain_refusal();

// Kernel lockdown is at "confidentiality" (/sys/kernel/security/lockdown): no kprobes, no reads of kernel memory.
bool forbids_reading_memory();

// The mode in brackets of /sys/kernel/security/lockdown ("none [integrity] confidentiality"); empty if there is none.
std::string lockdown_mode(const std::string& text);

// Can kprobes be had from the kernel, as far as its symbols tell: CONFIG_KPROBES and CONFIG_KPROBE_EVENTS, which are
// optional? Where the symbols cannot be read, they are taken for there.
bool has_kprobes();

// Does the kernel count when it skips a kprobe's program, because another program or a map operation is under way on
// that processor (trace_call_bpf())? Since 6.7, kernel commit dd8657894c11 ("bpf: Count missed stats in
// trace_call_bpf"), which came with the field `missed` of bpf_link_info (3acf8ace6823). fexit programs are always
// counted.
bool counts_skipped_kprobes();

}  // namespace hptrace
