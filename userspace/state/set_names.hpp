// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace hptrace {

// Name of the ipset with this index; nothing: not known. xt_set's payload holds the index only.
using SetNameOf = std::function<std::optional<std::string>(std::uint16_t index)>;

// Asks the kernel of the calling thread's namespace (getsockopt SO_IP_SET, IP_SET_OP_GET_BYINDEX in ip_set_core.c) and
// remembers the answers. A rule with a set match pins the ip_set module, so asking loads nothing.
SetNameOf kernel_set_names();

}  // namespace hptrace
