// SPDX-License-Identifier: GPL-2.0-or-later
// The system calls of iptables-legacy: which tables exist, and their blobs.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "base/fd.hpp"
#include "state/legacy.hpp"
#include "state/set_names.hpp"

namespace hptrace {
namespace {

static_assert(IPT_SO_GET_INFO == IP6T_SO_GET_INFO && IPT_SO_GET_ENTRIES == IP6T_SO_GET_ENTRIES);
static_assert(offsetof(ipt_get_entries, entrytable) == offsetof(ip6t_get_entries, entrytable));

constexpr std::string_view tool(Family family) {
    return family == Family::ipv4 ? "iptables-legacy" : "ip6tables-legacy";
}

// The legacy tables that exist in the calling thread's namespace; none if the file is missing.
Result<std::vector<std::string>> existing_tables(Family family) {
    const std::string path =
        fmt::format("/proc/thread-self/net/{}_tables_names", family == Family::ipv4 ? "ip" : "ip6");
    std::ifstream file(path);
    if (!file) {
        if (errno == ENOENT) {
            return std::vector<std::string>{};
        }
        return system_error(fmt::format("cannot read {}", path), errno, "run as root");
    }
    std::vector<std::string> names;
    for (std::string line; std::getline(file, line);) {
        names.push_back(std::move(line));
    }
    if (file.bad()) {
        return system_error(fmt::format("cannot read {}", path), EIO);
    }
    return names;
}

Result<LegacyInfo> get_info(const Fd& socket, const std::string& name, Family family) {
    ipt_getinfo raw{};
    name.copy(raw.name, sizeof(raw.name) - 1);
    socklen_t size = sizeof(raw);
    if (getsockopt(socket.get(), family == Family::ipv4 ? IPPROTO_IP : IPPROTO_IPV6, IPT_SO_GET_INFO, &raw, &size) !=
        0) {
        return system_error(fmt::format("cannot read table {} of {}", name, tool(family)));
    }
    if (size != sizeof(raw)) {
        return failure(fmt::format("table {} of {}: the kernel's answer is truncated", name, tool(family)));
    }
    LegacyInfo info;
    info.name = name;
    info.valid_hooks = raw.valid_hooks;
    std::ranges::copy(raw.hook_entry, info.hook_entry.begin());
    std::ranges::copy(raw.underflow, info.underflow.begin());
    info.num_entries = raw.num_entries;
    info.size = raw.size;
    return info;
}

// struct ipt_get_entries with the entries behind it. EAGAIN: the table's size changed since `info`.
Result<std::vector<std::byte>> get_entries(const Fd& socket, const LegacyInfo& info, Family family) {
    std::vector<std::byte> buffer(offsetof(ipt_get_entries, entrytable) + info.size);
    std::memcpy(buffer.data(), info.name.c_str(), std::min(info.name.size(), std::size_t{XT_TABLE_MAXNAMELEN - 1}));
    std::memcpy(buffer.data() + offsetof(ipt_get_entries, size), &info.size, sizeof(info.size));
    auto size = static_cast<socklen_t>(buffer.size());
    if (getsockopt(socket.get(), family == Family::ipv4 ? IPPROTO_IP : IPPROTO_IPV6, IPT_SO_GET_ENTRIES, buffer.data(),
                   &size) != 0) {
        return system_error(fmt::format("cannot read the rules of table {} of {}", info.name, tool(family)));
    }
    if (size != buffer.size()) {
        return system_error(fmt::format("table {} of {}: the kernel's answer is truncated", info.name, tool(family)),
                            EAGAIN);
    }
    return buffer;
}

Result<RuleTable> read_table(const Fd& socket, const std::string& name, Family family, const SetNameOf& set_name) {
    constexpr int attempts = 5;  // between the two calls the table may be replaced by another one
    Result<RuleTable> table = failure("not read");
    for (int attempt = 0; attempt < attempts; ++attempt) {
        const auto info = get_info(socket, name, family);
        if (!info) {
            return std::unexpected(info.error());
        }
        const auto answer = get_entries(socket, *info, family);
        if (answer) {
            // A table of the same size and other hooks cannot be told from a broken one: read again as well.
            table = parse_legacy_blob(std::span(*answer).subspan(offsetof(ipt_get_entries, entrytable)), *info, family,
                                      set_name);
            if (table) {
                return table;
            }
        } else if (answer.error().code != EAGAIN) {
            return std::unexpected(answer.error());
        } else {
            table = std::unexpected(answer.error());
        }
    }
    return table;
}

}  // namespace

Result<std::vector<RuleTable>> read_legacy_tables(Family family) {
    const auto names = existing_tables(family);
    if (!names) {
        return std::unexpected(names.error());
    }
    std::vector<RuleTable> tables;
    Fd fd;
    const SetNameOf set_name = kernel_set_names();
    for (const char* name : {"nat", "filter"}) {
        if (std::ranges::find(*names, name) == names->end()) {
            continue;
        }
        if (!fd) {
            fd = Fd(socket(to_af(family), SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
            if (!fd) {
                return system_error(fmt::format("cannot open a raw socket for {}", tool(family)), errno, "run as root");
            }
        }
        auto table = read_table(fd, name, family, set_name);
        if (!table) {
            return std::unexpected(table.error());
        }
        tables.push_back(std::move(*table));
    }
    return tables;
}

}  // namespace hptrace
