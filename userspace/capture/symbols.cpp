// SPDX-License-Identifier: GPL-2.0-or-later
#include "capture/symbols.hpp"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <sstream>
#include <utility>

namespace hptrace {

namespace {

// Modules seldom keep coming and going; of those that do, what any of the readings had is there.
constexpr int most_readings = 10;

std::string current_layout() {
    std::ifstream modules("/proc/modules");
    return symbol_layout(modules);
}

}  // namespace

// Lines are "ADDRESS TYPE NAME" or "ADDRESS TYPE NAME\t[MODULE]".
Functions find_functions(std::istream& kallsyms, const std::vector<std::string_view>& names) {
    Functions found;
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

bool is_built_in(std::string_view function, const Functions& functions) {
    const auto found = functions.find(function);
    return found != functions.end() && found->second.empty();
}

// Lines are "NAME SIZE REFERENCES USERS STATE ADDRESS".
std::string symbol_layout(std::istream& modules) {
    std::string layout;
    for (std::string line; std::getline(modules, line);) {
        std::istringstream words(line);
        std::string name;
        std::string size;
        std::string references;
        std::string users;
        std::string state;
        words >> name >> size >> references >> users >> state;
        layout.append(name).append(" ").append(size).append(" ").append(state).append("\n");
    }
    return layout;
}

Result<Functions> read_functions(const std::vector<std::string_view>& names) {
    Functions found;
    auto layout = current_layout();
    for (int reading = 0; reading < most_readings; ++reading) {
        std::ifstream kallsyms("/proc/kallsyms");
        if (!kallsyms) {
            return system_error("cannot read /proc/kallsyms", errno, "it tells which functions the kernel has");
        }
        if (kallsyms.peek() == std::ifstream::traits_type::eof()) {
            return failure("/proc/kallsyms is empty, which tells what functions the kernel has",
                           "a container or the service manager hides it: ProtectKernelTunables=no");
        }
        found.merge(find_functions(kallsyms, names));
        if (auto now = current_layout(); now != layout) {
            layout = std::move(now);
        } else {
            break;
        }
    }
    return found;
}

}  // namespace hptrace
