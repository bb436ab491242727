// SPDX-License-Identifier: GPL-2.0-or-later
#include "capture/symbols.hpp"

#include <algorithm>
#include <cctype>

namespace hptrace {

// Lines are "ADDRESS TYPE NAME" or "ADDRESS TYPE NAME\t[MODULE]".
std::map<std::string, std::string, std::less<>> find_functions(std::istream& kallsyms,
                                                               const std::vector<std::string_view>& names) {
    std::map<std::string, std::string, std::less<>> found;
    std::string line;
    while (std::getline(kallsyms, line)) {
        const std::string_view text = line;
        const auto type = text.find(' ');
        if (type == std::string_view::npos || type + 3 >= text.size() || (text[type + 1] | 0x20) != 't') {
            continue;
        }
        auto name = text.substr(type + 3);
        std::string_view module;
        if (const auto tab = name.find('\t'); tab != std::string_view::npos) {
            module = name.substr(tab + 1);
            name = name.substr(0, tab);
            if (module.size() >= 2 && module.front() == '[' && module.back() == ']') {
                module = module.substr(1, module.size() - 2);
            }
        }
        if (std::ranges::find(names, name) != names.end()) {
            found.emplace(name, module);
        }
    }
    return found;
}

}  // namespace hptrace
