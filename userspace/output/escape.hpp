// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>
#include <string_view>

namespace hptrace {

// Text of rule comments and names made harmless for a terminal: every byte that is not printable ASCII becomes \xNN.
std::string escape(std::string_view text);

}  // namespace hptrace
