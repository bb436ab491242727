// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/kube_sets.hpp"

#include <algorithm>
#include <array>
#include <iterator>
#include <string>
#include <utility>

#include "base/presence.hpp"

namespace hptrace {
namespace {

// "KUBE-6-…" for IPv6. What stands first decides.
struct KindOfSet {
    std::string_view name;  // after "KUBE-" or "KUBE-6-"
    KindInSets kind;
    std::optional<Protocol> protocol;  // of sets that are for one
};

constexpr auto kinds_of_sets = std::to_array<KindOfSet>({
    {"CLUSTER-IP", {ServiceKind::cluster_ip, false}, std::nullopt},
    {"LOAD-BALANCER-LOCAL", {ServiceKind::load_balancer, true}, std::nullopt},
    {"LOAD-BALANCER", {ServiceKind::load_balancer, false}, std::nullopt},
    {"EXTERNAL-IP-LOCAL", {ServiceKind::external_ip, true}, std::nullopt},
    {"EXTERNAL-IP", {ServiceKind::external_ip, false}, std::nullopt},
    {"NODE-PORT-LOCAL-TCP", {ServiceKind::node_port, true}, Protocol::tcp},
    {"NODE-PORT-TCP", {ServiceKind::node_port, false}, Protocol::tcp},
    {"NODE-PORT-LOCAL-UDP", {ServiceKind::node_port, true}, Protocol::udp},
    {"NODE-PORT-UDP", {ServiceKind::node_port, false}, Protocol::udp},
    {"NODE-PORT-LOCAL-SCTP-HASH", {ServiceKind::node_port, true}, Protocol::sctp},
    {"NODE-PORT-SCTP-HASH", {ServiceKind::node_port, false}, Protocol::sctp},
});
constexpr std::string_view health_check_set = "HEALTH-CHECK-NODE-PORT";
constexpr std::array families{Family::ipv4, Family::ipv6};

// NewIPSet() of pkg/proxy/ipvs/ipset.go cuts off what would be too long (IPSET_MAXNAMELEN, with the NUL).
std::string full_name(Family family, std::string_view name) {
    constexpr std::size_t longest = 31;
    return std::string(family == Family::ipv4 ? "KUBE-" : "KUBE-6-").append(name).substr(0, longest);
}

SetMember member_of(const SetQuery& query) {
    return {.ip = query.address.ip, .port = query.address.port, .protocol = std::to_underlying(query.protocol)};
}

template <class Sets>
auto* find_set(Sets& sets, Family family, std::string_view name) {
    const auto found = std::ranges::find(sets, full_name(family, name), &IpSet::name);
    return found == sets.end() ? nullptr : &*found;
}

std::vector<std::string> all_names() {
    std::vector<std::string> names;
    for (const auto family : families) {
        for (const auto& kind : kinds_of_sets) {
            names.push_back(full_name(family, kind.name));
        }
        names.push_back(full_name(family, health_check_set));
    }
    return names;
}

// Asks `set` about all of `members`, adds to it those it has, and removes them.
Result<void> take_members(KernelSets& kernel, IpSet& set, std::vector<SetMember>& members) {
    const auto answers = kernel.test(set, members);
    if (!answers) {
        return std::unexpected(answers.error());
    }
    std::vector<SetMember> others;
    for (std::size_t i = 0; i < members.size(); ++i) {
        if ((*answers)[i]) {
            set.members.push_back(as_in(set, members[i]));
        } else {
            others.push_back(members[i]);
        }
    }
    members = std::move(others);
    std::ranges::sort(set.members);
    const auto rest = std::ranges::unique(set.members);
    set.members.erase(rest.begin(), rest.end());
    return {};
}

Result<void> ask_family(KernelSets& kernel, Family family, const KubeSetQuestion& question, std::vector<IpSet>& sets) {
    for (const auto protocol : {Protocol::tcp, Protocol::udp, Protocol::sctp}) {
        std::vector<SetMember> open;
        for (const auto& query : question.served) {
            if (query.address.ip.family == family && query.protocol == protocol) {
                open.push_back(member_of(query));
            }
        }
        for (const auto& kind : kinds_of_sets) {
            auto* const set =
                kind.protocol.value_or(protocol) == protocol ? find_set(sets, family, kind.name) : nullptr;
            if (set == nullptr) {
                continue;
            }
            if (const auto taken = take_members(kernel, *set, open); !taken) {
                return taken;
            }
        }
    }
    auto* const health = find_set(sets, family, health_check_set);
    if (health == nullptr) {
        return {};
    }
    std::vector<SetMember> ports;
    for (const auto& port : question.hostport_ports) {
        if (port.ip.family == family) {
            ports.push_back(member_of({.address = port, .protocol = Protocol::tcp}));
        }
    }
    return take_members(kernel, *health, ports);
}

}  // namespace

Result<std::vector<IpSet>> read_kube_sets(const KubeSetQuestion& question) {
    if (question.empty() || !subsystem_present("ip_set") || !subsystem_present("nfnetlink")) {
        return std::vector<IpSet>{};
    }
    auto kernel = KernelSets::open();
    if (!kernel) {
        return std::unexpected(kernel.error());
    }
    auto sets = kernel->existing(all_names());
    if (!sets) {
        return std::unexpected(sets.error());
    }
    for (const auto family : families) {
        if (const auto asked = ask_family(*kernel, family, question, *sets); !asked) {
            return std::unexpected(asked.error());
        }
    }
    return sets;
}

std::optional<KindInSets> kind_of_service(const std::vector<IpSet>& sets, const SetQuery& service) {
    for (const auto& kind : kinds_of_sets) {
        const auto* const set = kind.protocol.value_or(service.protocol) == service.protocol
                                    ? find_set(sets, service.address.ip.family, kind.name)
                                    : nullptr;
        if (set != nullptr && set->contains(as_in(*set, member_of(service)))) {
            return kind.kind;
        }
    }
    return std::nullopt;
}

std::vector<std::uint16_t> health_check_ports(const std::vector<IpSet>& sets, Family family) {
    std::vector<std::uint16_t> ports;
    if (const auto* const set = find_set(sets, family, health_check_set)) {
        std::ranges::transform(set->members, std::back_inserter(ports),
                               [](const SetMember& member) { return member.port.value_or(0); });
    }
    return ports;
}

std::vector<SetService> services_of_sets(const std::vector<IpSet>& sets) {
    std::vector<SetService> services;
    for (const auto family : families) {
        for (const auto& kind : kinds_of_sets) {
            const auto* const set = find_set(sets, family, kind.name);
            if (set == nullptr) {
                continue;
            }
            for (const auto& member : set->members) {
                const auto protocol = member.protocol ? protocol_from_number(*member.protocol) : kind.protocol;
                if (protocol && member.port) {
                    services.push_back({.set = set->name,
                                        .family = family,
                                        .ip = member.ip,
                                        .port = *member.port,
                                        .protocol = *protocol});
                }
            }
        }
    }
    return services;
}

}  // namespace hptrace
