// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/presence.hpp"

#include <sys/utsname.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <utility>

#include "base/file.hpp"

namespace hptrace {

namespace {

// A function that exists exactly when the subsystem does, for built-in ones: exported or registered by address, so
// it is neither inlined nor renamed by the compiler.
constexpr auto witnesses = std::to_array<std::pair<std::string_view, std::string_view>>({
    {"ip6_tables", "ip6t_register_table"},
    {"ip_set", "ip_set_type_register"},
    {"ip_tables", "ipt_register_table"},
    {"ip_vs", "register_ip_vs_scheduler"},
    {"nf_conntrack", "nf_conntrack_in"},
    {"nf_conntrack_netlink", "ctnetlink_dump_table"},
    {"nf_nat", "nf_nat_setup_info"},
    {"nf_tables", "nft_do_chain"},
    {"nfnetlink", "nfnetlink_subsys_register"},
    {"x_tables", "xt_register_table"},
});

bool in_proc_modules(std::string_view module) {
    std::ifstream modules("/proc/modules");
    for (std::string line; std::getline(modules, line);) {
        if (std::string_view(line).substr(0, line.find(' ')) == module) {
            return true;
        }
    }
    return false;
}

std::set<std::string, std::less<>> read_builtin() {
    std::set<std::string, std::less<>> found;
    utsname kernel{};
    if (uname(&kernel) == 0) {
        // kernel/net/netfilter/nf_tables.ko
        constexpr std::size_t most_of_file = 16UL * 1024 * 1024;
        std::istringstream builtin(
            read_file(std::string("/lib/modules/") + kernel.release + "/modules.builtin", most_of_file)
                .value_or(std::string()));
        for (std::string line; std::getline(builtin, line);) {
            auto name = std::filesystem::path(line).stem().string();
            std::ranges::replace(name, '-', '_');
            found.insert(std::move(name));
        }
    }
    // "ffffffff81f653d0 T nft_do_chain", and a fourth column "[nf_tables]" if it belongs to a module
    std::ifstream symbols("/proc/kallsyms");
    for (std::string line; std::getline(symbols, line);) {
        constexpr std::string_view type = " T ";
        const auto type_at = line.find(' ');
        if (type_at == std::string::npos || type_at + type.size() > line.size() || line.back() == ']') {
            continue;
        }
        const auto name = std::string_view(line).substr(type_at + type.size());
        const auto* const witness = std::ranges::find(witnesses, name, [](const auto& entry) { return entry.second; });
        if (witness != witnesses.end()) {
            found.emplace(witness->first);
        }
    }
    return found;
}

bool built_in(std::string_view module) {
    // What is built in cannot change while the kernel runs.
    static const auto builtin = read_builtin();
    return builtin.contains(module);
}

}  // namespace

bool subsystem_present(std::string_view module) {
    std::error_code ignored;
    // Built-in code has a folder here only if it has parameters, so its absence means nothing.
    return std::filesystem::exists(std::filesystem::path("/sys/module") / module, ignored) || in_proc_modules(module) ||
           built_in(module);
}

}  // namespace hptrace
