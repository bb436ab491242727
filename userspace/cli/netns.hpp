// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <string>

#include "base/error.hpp"
#include "base/fd.hpp"

namespace hptrace {

// The network namespace a user names: a path (/run/netns/…) or a process id. Fails if it is no network namespace.
Result<Fd> open_netns(const std::string& name);

// The one of the calling thread.
Result<Fd> open_own_netns();

// Moves the calling thread (setns(2)): it needs CAP_SYS_ADMIN.
Result<void> enter_netns(const Fd& netns, const std::string& name);

// Inode number: how the kernel and records name a namespace.
Result<std::uint32_t> netns_inode();

}  // namespace hptrace
