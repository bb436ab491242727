// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string_view>

namespace hptrace {

// Is this kernel subsystem there already, as a loaded module or built in? `module` is the module's name with
// underscores ("nf_tables", "ip_vs", "ip_set", "nf_conntrack_netlink", "nfnetlink", ...).
//
// To be asked before any netlink request that the kernel would answer by request_module() (nfnetlink_rcv_msg,
// ctrl_getfamily, ...). Looks at /sys/module, /proc/modules, modules.builtin of the running kernel and, for kernels
// installed without it, the names in /proc/kallsyms: nothing that could load a module.
bool subsystem_present(std::string_view module);

}  // namespace hptrace
