// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/grace_period.hpp"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace hptrace {

Result<void> wait_for_grace_period() {
    if (::syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0U, 0) != 0) {
        return system_error("membarrier", errno, errno == EINVAL ? "the kernel was started with nohz_full" : "");
    }
    return {};
}

}  // namespace hptrace
