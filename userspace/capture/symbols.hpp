// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <istream>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace hptrace {

using Functions = std::map<std::string, std::string, std::less<>>;  // name -> module, "" if built in

// The functions among `names` that the kernel has under exactly that name, each with its module ("" if built in).
// BTF may list functions that exist only as a compiler's clone (name.isra.0) or not at all; /proc/kallsyms does not.
// `kallsyms`: text of /proc/kallsyms.
Functions find_functions(std::istream& kallsyms, const std::vector<std::string_view>& names);

// The kernel has the function, and in itself, not in a module.
bool is_built_in(std::string_view function, const Functions& functions);

// What of the text of /proc/modules decides which lines /proc/kallsyms has: name, size and state of each module, in
// order. The size shrinks when a module's initialisation is over, and its symbols become fewer (do_init_module).
std::string symbol_layout(std::istream& modules);

// The same from this kernel's /proc/kallsyms. The kernel counts its way to the next line through all modules
// (module_get_kallsym), so that a reading misses lines when one comes or goes meanwhile: it is repeated until none did.
// Error: it cannot be read, or is hidden.
Result<Functions> read_functions(const std::vector<std::string_view>& names);

}  // namespace hptrace
