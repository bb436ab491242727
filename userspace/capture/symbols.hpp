// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <istream>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace hptrace {

// The functions among `names` that the kernel has under exactly that name, each with its module ("" if built in).
// BTF may list functions that exist only as a compiler's clone (name.isra.0) or not at all; /proc/kallsyms does not.
// `kallsyms`: text of /proc/kallsyms.
std::map<std::string, std::string, std::less<>> find_functions(std::istream& kallsyms,
                                                               const std::vector<std::string_view>& names);

}  // namespace hptrace
