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
#include <cstddef>
#include <cstring>
#include <fstream>
#include <utility>

#include "base/fd.hpp"
#include "base/fingerprint.hpp"
#include "state/legacy.hpp"
#include "state/set_names.hpp"

namespace hptrace {
namespace {

static_assert(IPT_SO_GET_INFO == IP6T_SO_GET_INFO && IPT_SO_GET_ENTRIES == IP6T_SO_GET_ENTRIES);
static_assert(offsetof(ipt_get_entries, entrytable) == offsetof(ip6t_get_entries, entrytable));

// Where the entries begin in struct ipt_get_entries: behind the table's name and size.
constexpr std::size_t entries_at = offsetof(ipt_get_entries, entrytable);

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

// getsockopt() of the family's table interface into `answer`. EAGAIN: less came than was announced.
Result<void> ask(const Fd& socket, int option, std::span<std::byte> answer, const std::string& table, Family family) {
    auto size = static_cast<socklen_t>(answer.size());
    const int level = family == Family::ipv4 ? IPPROTO_IP : IPPROTO_IPV6;
    if (getsockopt(socket.get(), level, option, answer.data(), &size) != 0) {
        return system_error(fmt::format("cannot read table {} of {}", table, tool(family)));
    }
    if (size != answer.size()) {
        return system_error(fmt::format("table {} of {}: truncated answer", table, tool(family)), EAGAIN);
    }
    return {};
}

Result<LegacyInfo> get_info(const Fd& socket, const std::string& table, Family family) {
    ipt_getinfo raw{};
    table.copy(raw.name, sizeof(raw.name) - 1);
    if (const auto done = ask(socket, IPT_SO_GET_INFO, std::as_writable_bytes(std::span(&raw, 1)), table, family);
        !done) {
        return std::unexpected(done.error());
    }
    LegacyInfo info;
    info.name = table;
    info.valid_hooks = raw.valid_hooks;
    std::ranges::copy(raw.hook_entry, info.hook_entry.begin());
    info.num_entries = raw.num_entries;
    info.size = raw.size;
    return info;
}

// The blobs of those of the tables nat and filter that exist.
Result<std::vector<LegacyBlob>> read_blobs(Family family) {
    const auto names = existing_tables(family);
    if (!names) {
        return std::unexpected(names.error());
    }
    std::vector<LegacyBlob> blobs;
    for (const char* name : {"nat", "filter"}) {
        if (std::ranges::find(*names, name) == names->end()) {
            continue;
        }
        auto blob = read_legacy_blob(name, family);
        if (!blob) {
            return std::unexpected(blob.error());
        }
        blobs.push_back(*std::move(blob));
    }
    return blobs;
}

std::uint64_t fingerprint_of(const std::vector<LegacyBlob>& blobs, Family family) {
    Fingerprint all;
    for (const auto& blob : blobs) {
        all.add(fingerprint_of(blob.entries(), blob.info, family));
    }
    return all.value();
}

Result<std::vector<RuleTable>> parse_blobs(std::vector<LegacyBlob> blobs, Family family) {
    std::vector<RuleTable> tables;
    const SetNameOf set_name = kernel_set_names();
    for (auto& read : blobs) {
        const auto blob = std::make_shared<const LegacyBlob>(std::move(read));
        auto table = parse_legacy_blob(blob->entries(), blob->info, family, set_name, blob);
        if (!table) {
            return std::unexpected(table.error());
        }
        tables.push_back(*std::move(table));
    }
    return tables;
}

template <class Entry>
std::uint64_t fingerprint_of_entries(std::span<const std::byte> rest, const LegacyInfo& info) {
    Fingerprint print;
    print.add(info.name);
    print.add(info.valid_hooks);
    for (const auto offset : info.hook_entry) {
        print.add(offset);
    }
    constexpr std::size_t counters_end = offsetof(Entry, counters) + sizeof(xt_counters);
    while (rest.size() >= sizeof(Entry)) {
        std::uint16_t size = 0;
        std::memcpy(&size, rest.data() + offsetof(Entry, next_offset), sizeof(size));
        if (size < sizeof(Entry) || size > rest.size()) {
            break;
        }
        print.add(rest.first(offsetof(Entry, counters)));
        print.add(rest.subspan(counters_end, size - counters_end));
        rest = rest.subspan(size);
    }
    print.add(rest);
    return print.value();
}

}  // namespace

Result<LegacyBlob> read_legacy_blob(const std::string& table, Family family) {
    // libiptc's is a raw one, which wants CAP_NET_RAW; the kernel answers on any.
    const Fd fd(socket(to_af(family), SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!fd) {
        return system_error(fmt::format("cannot open a socket for {}", tool(family)));
    }
    const auto info = get_info(fd, table, family);
    if (!info) {
        return std::unexpected(info.error());
    }
    auto answer = Pages::allocate(entries_at + info->size);
    if (!answer) {
        return system_error(fmt::format("no memory for table {} of {}", table, tool(family)));
    }
    const auto bytes = answer->bytes();
    std::memcpy(bytes.data(), table.c_str(), std::min(table.size(), std::size_t{XT_TABLE_MAXNAMELEN - 1}));
    std::memcpy(bytes.data() + offsetof(ipt_get_entries, size), &info->size, sizeof(info->size));
    if (const auto done = ask(fd, IPT_SO_GET_ENTRIES, bytes, table, family); !done) {
        return std::unexpected(done.error());
    }
    return LegacyBlob{*info, *std::move(answer)};
}

std::span<const std::byte> LegacyBlob::entries() const {
    return answer.bytes().subspan(entries_at);
}

std::uint64_t fingerprint_of(std::span<const std::byte> blob, const LegacyInfo& info, Family family) {
    return family == Family::ipv4 ? fingerprint_of_entries<ipt_entry>(blob, info)
                                  : fingerprint_of_entries<ip6t_entry>(blob, info);
}

ReadIfNew<std::vector<RuleTable>> read_legacy_tables_if_new(Family family, std::optional<std::uint64_t> known) {
    constexpr int attempts = 5;
    Error last;
    for (int attempt = 0; attempt < attempts; ++attempt) {
        auto blobs = read_blobs(family);
        if (!blobs && blobs.error().code != EAGAIN) {
            return std::unexpected(blobs.error());
        }
        if (!blobs) {
            last = blobs.error();
            continue;
        }
        const auto version = fingerprint_of(*blobs, family);
        if (version == known) {
            return std::nullopt;
        }
        // A table replaced by one of the same size and other hooks looks malformed: read again as well.
        auto tables = parse_blobs(*std::move(blobs), family);
        if (tables) {
            return Versioned{version, *std::move(tables)};
        }
        last = tables.error();
    }
    return std::unexpected(last);
}

Result<std::vector<RuleTable>> read_legacy_tables(Family family) {
    auto read = read_legacy_tables_if_new(family, std::nullopt);
    if (!read) {
        return std::unexpected(read.error());
    }
    auto& all = *read;  // there: nothing was known
    return all ? std::move(all->content) : std::vector<RuleTable>{};
}

}  // namespace hptrace
