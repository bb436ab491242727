// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/save_files.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/excerpt.hpp"
#include "state/json_read.hpp"
#include "state/save_text.hpp"

namespace hptrace {
namespace {

using nlohmann::json;

// A line of ipvsadm-save: "-A" adds a virtual server, "-a" a real server to one.
struct IpvsLine {
    VirtualServer server;
    std::optional<Endpoint> real_server;
    bool named = false;  // it says which virtual server it is about
};

std::optional<Protocol> protocol_of_option(std::string_view option) {
    if (option == "-t") {
        return Protocol::tcp;
    }
    if (option == "-u") {
        return Protocol::udp;
    }
    return option == "--sctp-service" ? std::optional(Protocol::sctp) : std::nullopt;
}

std::unexpected<Error> bad(std::string_view what, std::string_view value) {
    return failure(fmt::format("bad {} '{}'", what, excerpt(value)));
}

// A line that is not what `tool` prints; often what it complained of.
std::unexpected<Error> not_of(std::string_view tool, std::string_view line) {
    return failure(fmt::format("not what {} prints: '{}'", tool, excerpt(line)));
}

Result<IpvsLine> parse_ipvs_line(std::span<const Word> words) {
    IpvsLine line;
    for (std::size_t i = 1; i < words.size(); ++i) {
        const std::string& option = words[i].text;
        const std::string value = i + 1 < words.size() ? words[i + 1].text : std::string();
        if (const auto protocol = protocol_of_option(option)) {
            const auto address = parse_endpoint(value);
            if (!address) {
                return failure(fmt::format("bad virtual server '{}'", excerpt(value)), "save with ipvsadm-save -n");
            }
            line.server.protocol = static_cast<std::uint8_t>(*protocol);
            line.server.address = *address;
            line.server.family = address->ip.family;
            line.named = true;
        } else if (option == "-f") {
            const auto mark = to_number<std::uint32_t>(value);
            if (!mark || *mark == 0) {
                return bad("firewall mark", value);
            }
            line.server.fwmark = *mark;
            line.named = true;
        } else if (option == "-6") {
            line.server.family = Family::ipv6;
        } else if (option == "-p") {
            line.server.persistent = true;
        } else if (option == "-r") {
            line.real_server = parse_endpoint(value);
            if (!line.real_server) {
                return failure(fmt::format("bad real server '{}'", excerpt(value)), "save with ipvsadm-save -n");
            }
        }  // the scheduler, weights and forwarding methods do not say who answers
    }
    if (!line.named) {
        return failure("no virtual server in it");
    }
    return line;
}

bool same_server(const VirtualServer& a, const VirtualServer& b) {
    return a.family == b.family && a.protocol == b.protocol && a.address == b.address && a.fwmark == b.fwmark;
}

Result<void> add_ipvs_line(const IpvsLine& line, bool real, std::vector<VirtualServer>& servers) {
    if (!real) {
        servers.push_back(line.server);
        return {};
    }
    // The real servers of a virtual server follow it.
    if (servers.empty() || !same_server(servers.back(), line.server)) {
        return failure("a real server of another virtual server than the one before");
    }
    if (!line.real_server) {
        return failure("no real server in it");
    }
    // Those of a virtual server that can be no Service are not asked for in the kernel either.
    if (line.server.fwmark == 0 && line.server.address.port != 0) {
        servers.back().real_servers.push_back(*line.real_server);
    }
    return {};
}

// "tcp:3306", or "30306" in a bitmap:port.
bool parse_member_port(std::string_view text, SetMember& member) {
    const auto colon = text.find(':');
    if (colon != std::string_view::npos) {
        member.protocol = protocol_number(text.substr(0, colon));
        if (!member.protocol) {
            return false;
        }
        text.remove_prefix(colon + 1);
    }
    member.port = to_number<std::uint16_t>(text);
    return member.port.has_value();
}

// "10.96.0.10,tcp:3306" of a "hash:ip,port"; of a second address the kernel is not asked either.
Result<SetMember> parse_member(std::string_view type, std::string_view text) {
    const auto dimensions = split(type.substr(type.find(':') + 1), ',');
    const auto parts = split(text, ',');
    if (parts.size() != dimensions.size()) {
        return failure(fmt::format("'{}' is no member of a {}", excerpt(text), excerpt(type)));
    }
    SetMember member;
    for (std::size_t i = 0; i < parts.size(); ++i) {
        bool understood = true;
        if ((dimensions[i] == "ip" || dimensions[i] == "net") && !member.ip) {
            const auto prefix = parse_prefix(parts[i]);
            understood = prefix.has_value();
            member.ip = prefix ? std::optional(prefix->address) : std::nullopt;
        } else if (dimensions[i] == "port") {
            understood = parse_member_port(parts[i], member);
        }
        if (!understood) {
            return failure(fmt::format("'{}' is no member of a {}", excerpt(text), excerpt(type)));
        }
    }
    return member;
}

// The sets while they are read: a member's line names the set it is of.
class IpsetReader {
public:
    explicit IpsetReader(std::string_view name_prefix) : prefix_(name_prefix) {}

    Result<void> add(std::string_view line) {
        const auto words = split_words(line);
        if (!words) {
            return std::unexpected(words.error());
        }
        const bool create = !words->empty() && words->front().text == "create";
        if (words->size() < 3 || (!create && words->front().text != "add")) {
            return not_of("ipset save", line);
        }
        const std::string& name = (*words)[1].text;
        if (!name.starts_with(prefix_)) {
            return {};
        }
        if (create) {
            if (!at_.emplace(name, sets_.size()).second) {
                return failure(fmt::format("set {} is there twice", excerpt(name)));
            }
            sets_.push_back({.name = name, .type = (*words)[2].text, .members = {}});
            return {};
        }
        const auto known = at_.find(name);
        if (known == at_.end()) {
            return failure(fmt::format("a member of set {}, which was not created", excerpt(name)));
        }
        IpSet& set = sets_[known->second];
        const auto member = parse_member(set.type, (*words)[2].text);
        if (!member) {
            return std::unexpected(member.error());
        }
        set.members.push_back(*member);
        return {};
    }

    std::vector<IpSet> sets() && { return std::move(sets_); }

private:
    std::string_view prefix_;
    std::vector<IpSet> sets_;
    std::unordered_map<std::string, std::size_t> at_;
};

// The array of objects every `ip -j` command prints.
Result<json> parse_list(std::string_view text) {
    auto list = parse_json(text);
    if (list && !list->is_array()) {
        return failure("not an array, as ip -j prints");
    }
    return list;
}

// A network namespace without any local address is not a node's.
Result<std::vector<LocalAddress>> shown(std::vector<LocalAddress> addresses) {
    if (addresses.empty()) {
        return failure("no local address in it", "not saved in the node's network namespace?");
    }
    return addresses;
}

}  // namespace

Result<std::vector<VirtualServer>> parse_ipvs_save(std::string_view text) {
    std::vector<VirtualServer> servers;
    const auto parsed = for_each_line(text, [&servers](std::string_view line) -> Result<void> {
        const auto words = split_words(line);
        if (!words) {
            return std::unexpected(words.error());
        }
        const bool real = !words->empty() && words->front().text == "-a";
        if (words->empty() || (!real && words->front().text != "-A")) {
            return not_of("ipvsadm-save", line);
        }
        const auto understood = parse_ipvs_line(*words);
        return understood ? add_ipvs_line(*understood, real, servers) : std::unexpected(understood.error());
    });
    if (!parsed) {
        return std::unexpected(parsed.error());
    }
    for (auto& server : servers) {
        std::ranges::sort(server.real_servers);
    }
    return servers;
}

Result<std::vector<IpSet>> parse_ipset_save(std::string_view text, std::string_view name_prefix) {
    IpsetReader reader(name_prefix);
    const auto parsed = for_each_line(text, [&reader](std::string_view line) { return reader.add(line); });
    if (!parsed) {
        return std::unexpected(parsed.error());
    }
    auto sets = std::move(reader).sets();
    for (auto& set : sets) {
        std::ranges::sort(set.members);
    }
    return sets;
}

std::vector<std::string> names_of_ipset_save(std::string_view text) {
    constexpr std::string_view create = "create ";
    std::vector<std::string> names;
    for (std::string_view line : split(text, '\n')) {
        if (line.starts_with(create)) {
            line.remove_prefix(create.size());
            names.emplace_back(line.substr(0, line.find(' ')));
        }
    }
    std::ranges::sort(names);
    return names;
}

Result<std::vector<LocalAddress>> parse_local_routes(std::string_view text) {
    const auto routes = parse_list(text);
    if (!routes) {
        return std::unexpected(routes.error());
    }
    std::vector<LocalAddress> addresses;
    for (const auto& route : *routes) {
        const auto type = text_of(route, "type");
        if (!type) {
            return failure("a route without a type: not the local table?");
        }
        if (*type != "local") {
            continue;
        }
        const auto destination = text_of(route, "dst").value_or("");
        const auto prefix = parse_prefix(destination);
        if (!prefix) {
            return bad("destination of a route", destination);
        }
        addresses.push_back({.prefix = *prefix, .device = text_of(route, "dev").value_or("")});
    }
    return shown(std::move(addresses));
}

Result<std::vector<LocalAddress>> parse_addresses(std::string_view text) {
    const auto links = parse_list(text);
    if (!links) {
        return std::unexpected(links.error());
    }
    std::vector<LocalAddress> addresses;
    for (const auto& link : *links) {
        const auto device = text_of(link, "ifname").value_or("");
        const json* const list = member(link, "addr_info");
        if (list == nullptr || !list->is_array()) {  // older versions of ip print {} for what a filter left out
            continue;
        }
        for (const auto& entry : *list) {
            const auto local = text_of(entry, "local");
            const auto prefix = local ? parse_prefix(*local) : std::nullopt;
            if (local && !prefix) {
                return bad("address", *local);
            }
            if (prefix) {
                addresses.push_back({.prefix = *prefix, .device = device});
            }
        }
    }
    return shown(std::move(addresses));
}

}  // namespace hptrace
