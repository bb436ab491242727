// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>

#include "base/error.hpp"

namespace hptrace {

// Where the kernel cannot be asked for a grace period it is taken to be over after this time.
inline constexpr std::chrono::seconds assumed_grace_period{1};

// Waits until whatever the kernel was reading under RCU when this was called is done (synchronize_rcu): packets among
// it that are on their way through rules. Takes as long as they do, usually tens of milliseconds.
// membarrier(MEMBARRIER_CMD_GLOBAL), kernel/sched/membarrier.c. With one processor it returns at once: a reader that
// runs there has ended, unless the kernel is one that is preempted everywhere (preempt=full).
// Error: EINVAL, the kernel was started with nohz_full; ENOSYS, it was built without the call; EPERM, a filter of
// system calls forbids it.
Result<void> wait_for_grace_period();

}  // namespace hptrace
