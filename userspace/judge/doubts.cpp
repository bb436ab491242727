// SPDX-License-Identifier: GPL-2.0-or-later
#include "judge/doubts.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <string_view>
#include <tuple>
#include <utility>

namespace hptrace {

namespace {

// What the rules of a chain do, or the elements of a set: by its name, which its writer keeps to.
enum class ChainRole : std::uint8_t {
    dispatches,  // a destination to the Service it is of
    endpoints,   // a Service to its endpoints, and whom it serves
    hostports,   // a HostPort producer's own
    any,         // a base chain, or one of somebody else
};

struct ChainRow {
    std::string_view name;
    bool whole;  // else it is what names begin with
    ChainRole role;
};

constexpr std::array chain_rows{
    // kube-proxy's iptables and ipvs mode
    ChainRow{"KUBE-SERVICES", true, ChainRole::dispatches},
    ChainRow{"KUBE-NODEPORTS", true, ChainRole::dispatches},
    ChainRow{"KUBE-NODE-PORT", true, ChainRole::dispatches},
    ChainRow{"KUBE-SVC-", false, ChainRole::endpoints},
    ChainRow{"KUBE-SVL-", false, ChainRole::endpoints},
    ChainRow{"KUBE-SEP-", false, ChainRole::endpoints},
    ChainRow{"KUBE-EXT-", false, ChainRole::endpoints},
    ChainRow{"KUBE-XLB-", false, ChainRole::endpoints},
    ChainRow{"KUBE-FW-", false, ChainRole::endpoints},
    // its nftables mode: chains, maps and sets
    ChainRow{"services", true, ChainRole::dispatches},
    ChainRow{"service-ips", true, ChainRole::dispatches},
    ChainRow{"service-nodeports", true, ChainRole::dispatches},
    ChainRow{"nodeport-ips", true, ChainRole::dispatches},
    ChainRow{"endpoints-check", true, ChainRole::dispatches},
    ChainRow{"no-endpoint-services", true, ChainRole::dispatches},
    ChainRow{"no-endpoint-nodeports", true, ChainRole::dispatches},
    ChainRow{"service-endpoints-check", true, ChainRole::dispatches},
    ChainRow{"nodeport-endpoints-check", true, ChainRole::dispatches},
    ChainRow{"service-", false, ChainRole::endpoints},
    ChainRow{"local-", false, ChainRole::endpoints},
    ChainRow{"external-", false, ChainRole::endpoints},
    ChainRow{"endpoint-", false, ChainRole::endpoints},
    // HostPort producers
    ChainRow{"CNI-HOSTPORT-", false, ChainRole::hostports},
    ChainRow{"CNI-DN-", false, ChainRole::hostports},
    ChainRow{"KUBE-HOSTPORTS", true, ChainRole::hostports},
    ChainRow{"KUBE-HP-", false, ChainRole::hostports},
    ChainRow{"NETAVARK-", false, ChainRole::hostports},
    ChainRow{"DOCKER", false, ChainRole::hostports},
};

ChainRole role_of(const UnreadRule& rule) {
    const auto* const row = std::ranges::find_if(chain_rows, [&rule](const ChainRow& candidate) {
        return candidate.whole ? rule.chain == candidate.name : rule.chain.starts_with(candidate.name);
    });
    return row == chain_rows.end() ? ChainRole::any : row->role;
}

// Of Services and who answers for them; else of what takes their connections away.
bool is_of_services(ChainRole role) {
    return role == ChainRole::dispatches || role == ChainRole::endpoints;
}

bool overlap(const PortRange& a, const PortRange& b) {
    return a.first <= b.last && b.first <= a.last;
}

bool could_match(const UnreadRule& rule, const Asked& asked) {
    return rule.family == asked.family && (!rule.protocol || *rule.protocol == asked.protocol) &&
           (rule.ports.empty() ||
            std::ranges::any_of(rule.ports, [&](const PortRange& range) { return range.contains(asked.port); }));
}

std::string source_text(std::string_view name, const SourceStatus& status) {
    return fmt::format("{} could not be read{}{}", name, status.why.empty() ? "" : ": ", status.why);
}

// The first source that `wanted` takes and that could not be read; empty: none.
template <class Wanted>
std::string unreadable(const NodeState& state, Wanted wanted) {
    for (const auto& [name, status] : state.sources) {
        if (status.state == SourceState::unreadable && wanted(source_row(name))) {
            return source_text(name, status);
        }
    }
    return {};
}

bool is_of_family(const SourceRow& row, std::optional<Family> family) {
    return !row.family || !family || *row.family == *family;
}

std::string rule_doubt(const UnreadRule& rule) {
    return fmt::format("a rule of {} ({}) was not understood", rule.chain, to_string(rule.backend));
}

template <class Relevant>
std::string not_understood(const NodeState& state, Relevant relevant) {
    const auto found = std::ranges::find_if(state.unread_rules, relevant);
    return found == state.unread_rules.end() ? std::string() : rule_doubt(*found);
}

// Does the source hold rules of that back end and family?
bool holds(const SourceRow& row, Backend backend, Family family) {
    const bool legacy = row.family.has_value();  // nf_tables has both
    return row.role == SourceRole::rules && legacy == (backend == Backend::iptables_legacy) &&
           is_of_family(row, family);
}

// Could the source tell something of the conflict that is no longer found?
bool concerns(const SourceRow& row, const Conflict& conflict) {
    const auto& [service, rule] = std::tie(conflict.service, conflict.rule);
    switch (row.role) {
        case SourceRole::everything:
            return true;
        case SourceRole::rules:
            return holds(row, rule.backend, rule.family) ||
                   (service.proxy != ServiceProxy::ipvs &&
                    (service.backend ? holds(row, *service.backend, service.family)
                                     : is_of_family(row, service.family)));
        case SourceRole::services:
            return service.proxy == ServiceProxy::ipvs;
        case SourceRole::addresses:
            return rule.local_only || rule.local_only_output || !service.ip;
        case SourceRole::kinds:
        case SourceRole::owners:
        case SourceRole::names:
            break;
    }
    return false;
}

// The same of a rule that was not understood: could it be one of the two, or a jump that leads there? What is behind
// the dispatch of a Service hides neither.
bool concerns(const UnreadRule& unread, const Conflict& conflict) {
    const auto& [service, rule] = std::tie(conflict.service, conflict.rule);
    if (!could_match(unread, {service.family, service.protocol, service.port})) {
        return false;
    }
    switch (role_of(unread)) {
        case ChainRole::dispatches:
            return service.proxy != ServiceProxy::ipvs && (!service.backend || *service.backend == unread.backend);
        case ChainRole::endpoints:
            return false;
        case ChainRole::hostports:
            return unread.backend == rule.backend && (unread.chain == rule.chain || unread.chain == rule.entry_chain);
        case ChainRole::any:
            return unread.backend == rule.backend || (service.backend && unread.backend == *service.backend);
    }
    return true;
}

// Ports of what is known of Services or of HostPorts, as far as the filter asks for them.
class Ports {
public:
    void add(Family family, Protocol protocol, const PortRange& range) { ranges_[{family, protocol}].push_back(range); }
    // To be called between the last add() and the first meets(): leaves ranges that are apart, in order.
    void merge() {
        for (auto& [of, ranges] : ranges_) {
            std::ranges::sort(ranges);
            std::vector<PortRange> apart;
            for (const auto& range : ranges) {
                if (apart.empty() || range.first > apart.back().last) {
                    apart.push_back(range);
                } else {
                    apart.back().last = std::max(apart.back().last, range.last);
                }
            }
            ranges = std::move(apart);
        }
    }

    // Is there one that the rule could match?
    [[nodiscard]] bool meets(const UnreadRule& rule) const {
        return std::ranges::any_of(all_protocols, [&](Protocol protocol) {
            return (!rule.protocol || *rule.protocol == protocol) &&
                   (rule.ports.empty() ? meets(rule.family, protocol, {0, 65535})
                                       : std::ranges::any_of(rule.ports, [&](const PortRange& range) {
                                             return meets(rule.family, protocol, range);
                                         }));
        });
    }

private:
    static constexpr std::array all_protocols{Protocol::tcp, Protocol::udp, Protocol::sctp};

    [[nodiscard]] bool meets(Family family, Protocol protocol, const PortRange& range) const {
        const auto found = ranges_.find({family, protocol});
        if (found == ranges_.end()) {
            return false;
        }
        const auto first = std::ranges::lower_bound(found->second, range.first, {}, &PortRange::last);
        return first != found->second.end() && first->first <= range.last;
    }

    std::map<std::pair<Family, Protocol>, std::vector<PortRange>> ranges_;
};

bool asks_for(const Filter& filter, Family family, std::optional<Protocol> protocol) {
    return (!filter.family || *filter.family == family) &&
           (filter.protocols.empty() || !protocol ||
            std::ranges::find(filter.protocols, *protocol) != filter.protocols.end());
}

bool asks_for(const Filter& filter, const UnreadRule& rule) {
    return asks_for(filter, rule.family, rule.protocol) &&
           (filter.ports.empty() || rule.ports.empty() || std::ranges::any_of(rule.ports, [&](const PortRange& range) {
                return std::ranges::any_of(filter.ports, [&](const PortRange& asked) { return overlap(range, asked); });
            }));
}

void add(Ports& ports, const Filter& filter, Family family, Protocol protocol, const PortRange& range) {
    if (!asks_for(filter, family, protocol)) {
        return;
    }
    if (filter.ports.empty()) {
        ports.add(family, protocol, range);
    }
    for (const auto& asked : filter.ports) {
        if (overlap(range, asked)) {
            ports.add(family, protocol, {std::max(range.first, asked.first), std::min(range.last, asked.last)});
        }
    }
}

// Rules that were not understood and that a conflict could come from: a Service's where there is a HostPort, known or
// not, that could want the same port, and the other way round.
std::vector<const UnreadRule*> open_rules(const NodeState& state, const Filter& filter) {
    std::vector<const UnreadRule*> asked_for;
    for (const auto& rule : state.unread_rules) {
        if (asks_for(filter, rule)) {
            asked_for.push_back(&rule);
        }
    }
    if (asked_for.empty()) {
        return {};
    }
    Ports services;
    for (const auto& service : state.services) {
        add(services, filter, service.family, service.protocol, {service.port, service.port});
    }
    Ports hostports;
    for (const auto& rule : state.hostports) {
        add(hostports, filter, rule.family, rule.protocol, rule.port);
    }
    for (const auto* rule : asked_for) {
        auto& ports = is_of_services(role_of(*rule)) ? services : hostports;
        for (const auto protocol : {Protocol::tcp, Protocol::udp, Protocol::sctp}) {
            if (rule->protocol && *rule->protocol != protocol) {
                continue;
            }
            for (const auto& range : rule->ports.empty() ? std::vector<PortRange>{{0, 65535}} : rule->ports) {
                add(ports, filter, rule->family, protocol, range);
            }
        }
    }
    services.merge();
    hostports.merge();
    std::erase_if(asked_for, [&](const UnreadRule* rule) {
        return !(is_of_services(role_of(*rule)) ? hostports : services).meets(*rule);
    });
    return asked_for;
}

}  // namespace

std::string doubt_about_ip_vs(const NodeState& state) {
    return unreadable(state, [](const SourceRow& row) {
        return row.role == SourceRole::everything || row.role == SourceRole::services;
    });
}

std::string doubt_about_services(const NodeState& state, const Asked& asked) {
    auto why = unreadable(state, [&](const SourceRow& row) {
        return row.role == SourceRole::everything || row.role == SourceRole::services ||
               (row.role == SourceRole::rules && is_of_family(row, asked.family));
    });
    if (!why.empty()) {
        return why;
    }
    return not_understood(state, [&](const UnreadRule& rule) {
        return role_of(rule) == ChainRole::dispatches && could_match(rule, asked);
    });
}

std::string doubt_about_endpoints(const NodeState& state, const Service& service) {
    if (service.proxy == ServiceProxy::ipvs) {
        return {};
    }
    // Behind the dispatch a packet may have another port: only the protocol stays.
    return not_understood(state, [&](const UnreadRule& rule) {
        return role_of(rule) == ChainRole::endpoints && rule.family == service.family &&
               (!rule.protocol || *rule.protocol == service.protocol);
    });
}

std::string doubt_about_rules(const NodeState& state, const Asked& asked) {
    auto why =
        unreadable(state, [&](const SourceRow& row) { return decides(row.role) && is_of_family(row, asked.family); });
    if (!why.empty()) {
        return why;
    }
    return not_understood(state, [&](const UnreadRule& rule) { return could_match(rule, asked); });
}

bool may_remain(const Conflict& conflict, const NodeState& state) {
    return std::ranges::any_of(state.sources,
                               [&](const auto& source) {
                                   return source.second.state == SourceState::unreadable &&
                                          concerns(source_row(source.first), conflict);
                               }) ||
           std::ranges::any_of(state.unread_rules, [&](const UnreadRule& rule) { return concerns(rule, conflict); });
}

std::vector<std::string> doubts(const NodeState& state, const Filter& filter) {
    std::vector<std::string> found;
    for (const auto& [name, status] : state.sources) {
        if (const auto row = source_row(name);
            status.state == SourceState::unreadable && decides(row.role) && is_of_family(row, filter.family)) {
            found.push_back(source_text(name, status));
        }
    }
    if (const auto rules = open_rules(state, filter); !rules.empty()) {
        found.push_back(rules.size() == 1 ? rule_doubt(*rules.front())
                                          : fmt::format("{} rules were not understood, one of {} ({})", rules.size(),
                                                        rules.front()->chain, to_string(rules.front()->backend)));
    }
    return found;
}

}  // namespace hptrace
