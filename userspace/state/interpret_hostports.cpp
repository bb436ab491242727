// SPDX-License-Identifier: GPL-2.0-or-later
// Follows packets from PREROUTING and OUTPUT through the chains of HostPort producers to the DNAT rules, collecting
// what every rule on the way demands. Portmap: plugins/meta/portmap; CRI-O: internal/hostport; netavark: src/firewall;
// Docker: libnetwork/drivers/bridge.
#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "base/fingerprint.hpp"
#include "state/interpret.hpp"
#include "state/rule_text.hpp"

namespace hptrace {
namespace {

struct Known {
    std::string_view name;
    Producer producer;
};

constexpr std::array entry_chains{
    Known{"CNI-HOSTPORT-DNAT", Producer::portmap},
    Known{"KUBE-HOSTPORTS", Producer::crio},
    Known{"NETAVARK-HOSTPORT-DNAT", Producer::netavark},
    Known{"DOCKER", Producer::docker},
};
constexpr std::array native_tables{
    Known{"cni_hostport", Producer::portmap},
    Known{"crio-hostports", Producer::crio},
    Known{"netavark", Producer::netavark},
    Known{"docker-bridges", Producer::docker},
};

template <std::size_t size>
std::optional<Producer> find(const std::array<Known, size>& list, std::string_view name) {
    const auto found = std::ranges::find(list, name, &Known::name);
    return found == list.end() ? std::nullopt : std::optional(found->producer);
}

using Ranges = std::vector<PortRange>;

Ranges complement(Ranges ranges) {
    std::ranges::sort(ranges);
    Ranges rest;
    std::uint32_t next = 0;
    for (const PortRange& range : ranges) {
        if (range.first > next) {
            rest.push_back({static_cast<std::uint16_t>(next), static_cast<std::uint16_t>(range.first - 1)});
        }
        next = std::max<std::uint32_t>(next, range.last + 1U);
    }
    if (next <= 65535) {
        rest.push_back({static_cast<std::uint16_t>(next), 65535});
    }
    return rest;
}

// Sorted, and without overlaps; neighbours stay apart.
Ranges disjoint(Ranges ranges) {
    std::ranges::sort(ranges);
    Ranges apart;
    for (const PortRange& range : ranges) {
        if (apart.empty() || range.first > apart.back().last) {
            apart.push_back(range);
        } else {
            apart.back().last = std::max(apart.back().last, range.last);
        }
    }
    return apart;
}

Ranges intersection(const Ranges& one, const Ranges& other) {
    const Ranges left = disjoint(one);
    const Ranges right = disjoint(other);
    Ranges both;
    for (auto a = left.begin(), b = right.begin(); a != left.end() && b != right.end();) {
        const PortRange range{std::max(a->first, b->first), std::min(a->last, b->last)};
        if (range.first <= range.last) {
            both.push_back(range);
        }
        if (a->last < b->last) {
            ++a;
        } else {
            ++b;
        }
    }
    return both;
}

// What a packet that got here has met.
struct Path {
    std::optional<Family> family;
    std::optional<Protocol> protocol;
    std::optional<Ranges> ports;
    std::optional<Prefix> host_ip;
    bool local = false;
    bool conditional = false;
    std::optional<Producer> producer;
    const Chain* entry_chain = nullptr;
    // The rule of the entry chain that leads on: holds portmap's comment. It is there as long as the walk is behind it.
    const Rule* entry_rule = nullptr;

    // Adds what `rule` demands; destinations it demands not to be go to `excluded`. False: nothing a hostPort could be
    // for meets it all.
    bool add(const Rule& rule, std::vector<Prefix>& excluded);

private:
    bool add_protocol(const Rule& rule);
    bool add_destinations(const Rule& rule, std::vector<Prefix>& excluded);
    bool add_ports(const Rule& rule);
};

bool Path::add(const Rule& rule, std::vector<Prefix>& excluded) {
    if (rule.family) {
        if (family && *family != *rule.family) {
            return false;
        }
        family = rule.family;
    }
    if (!add_protocol(rule) || !add_destinations(rule, excluded) || !add_ports(rule)) {
        return false;
    }
    if (rule.destination_local) {
        local = local || *rule.destination_local;
        conditional = conditional || !*rule.destination_local;
    }
    conditional = conditional || !rule.sources.empty() || !rule.source_ports.empty() || rule.in_interface ||
                  rule.out_interface || rule.source_local || !rule.sets.empty() || !rule.conditions.empty();
    return true;
}

bool Path::add_protocol(const Rule& rule) {
    if (!rule.l4proto) {
        return true;
    }
    const auto known = protocol_from_number(rule.l4proto->value);
    if (rule.l4proto->inverted) {
        conditional = conditional || known.has_value();
        return true;
    }
    if (!known || (protocol && *protocol != *known)) {
        return false;
    }
    protocol = known;
    return true;
}

bool Path::add_destinations(const Rule& rule, std::vector<Prefix>& excluded) {
    for (const auto& [prefix, inverted] : rule.destinations) {
        if (inverted) {
            excluded.push_back(prefix);
        } else if (!host_ip || (host_ip->length <= prefix.length && host_ip->contains(prefix.address))) {
            host_ip = prefix;
        } else if (!prefix.contains(host_ip->address)) {
            return false;
        }
    }
    return true;
}

bool Path::add_ports(const Rule& rule) {
    for (const auto& [any_of, inverted] : rule.destination_ports) {
        const Ranges allowed = inverted ? complement(any_of) : any_of;
        ports = ports ? intersection(*ports, allowed) : allowed;
    }
    return !ports || !ports->empty();
}

// True if every packet of the chain that gets to `rule` stays here: nothing behind it is reached.
bool ends_chain(const Rule& rule) {
    switch (rule.target.kind) {
        case TargetKind::accept:
        case TargetKind::drop:
        case TargetKind::reject:
        case TargetKind::return_:
        case TargetKind::go_to:
        case TargetKind::dnat:
        case TargetKind::redirect:
            return true;
        default:
            return false;
    }
}

bool ends_without_nat(const Rule& rule) {
    return ends_chain(rule) && rule.target.kind != TargetKind::go_to && rule.target.kind != TargetKind::dnat &&
           rule.target.kind != TargetKind::redirect;
}

bool demands_no_more_than_destinations(const Rule& rule) {
    return !rule.l4proto && rule.sources.empty() && rule.source_ports.empty() && rule.destination_ports.empty() &&
           !rule.in_interface && !rule.out_interface && !rule.destination_local && !rule.source_local &&
           rule.sets.empty() && rule.maps.empty() && rule.conditions.empty() && rule.unread.empty() && !rule.family;
}

bool demands_nothing(const Rule& rule) {
    return rule.destinations.empty() && demands_no_more_than_destinations(rule);
}

// What an element of a map demands of the packet that is looked up in it; nothing: of other fields than destinations.
std::optional<Rule> demands_of(const MapLookup& lookup, const SetElement& element) {
    Rule demands;
    for (const LookupField field : lookup.key) {
        switch (field) {
            case LookupField::destination_address: {
                const auto length = static_cast<std::uint8_t>(element.key.ip.size() * 8);
                demands.destinations.push_back({Prefix{element.key.ip, length}, false});
                break;
            }
            case LookupField::protocol:
                demands.l4proto = {element.key.protocol, false};
                break;
            case LookupField::destination_port:
                demands.destination_ports.push_back({{{element.key.port, element.key.port}}, false});
                break;
            default:
                return std::nullopt;
        }
    }
    return demands;
}

struct Owner {
    std::string network;
    std::string container_id;
};

// `dnat name: "cbr0" id: "4f1c…"` (portmap), the same without quotes (netavark); a long one is cut off and ends in
// "...", or in less of it.
Owner parse_comment(std::string_view comment) {
    constexpr std::string_view begin = "dnat name: ";
    constexpr std::string_view middle = " id: ";
    const auto unquote = [](std::string_view text) {
        if (text.starts_with('"')) {
            text.remove_prefix(1);
        }
        if (text.ends_with('"')) {
            text.remove_suffix(1);
        }
        return std::string(text);
    };
    if (!comment.starts_with(begin)) {
        return {};
    }
    comment.remove_prefix(begin.size());
    const auto split = comment.rfind(middle);
    if (split == std::string_view::npos) {
        return {};
    }
    const auto id = comment.substr(split + middle.size());
    // Of a truncated id only the beginning is known: no id at all is better than a wrong one.
    const bool truncated = id.ends_with("...") || (id.starts_with('"') && !id.ends_with('"'));
    return {unquote(comment.substr(0, split)), truncated ? std::string() : unquote(id)};
}

class Walker {
public:
    Walker(const TableView& view, UnreadRules& unread, Work& work)
        : view_(view),
          unread_(unread),
          work_(work),
          leads_to_entry_(view.table().chains.size()),
          leads_to_dnat_(view.table().chains.size()) {}

    std::vector<HostPortRule> walk() {
        for (const bool output : {false, true}) {
            if (const Chain* base = view_.base(output ? "OUTPUT" : "PREROUTING")) {
                output_ = output;
                Path path;
                if (!view_.is_xtables()) {
                    path.producer = find(native_tables, view_.table().name);
                }
                follow(*base, path, 0);
            }
        }
        std::vector<HostPortRule> rules;
        rules.reserve(leaves_.size());
        for (Leaf& leaf : leaves_) {
            rules.push_back(std::move(leaf.rule));
        }
        return rules;
    }

private:
    struct Leaf {
        const void* dnat;  // TableView::identity()
        const void* entry;
        HostPortRule rule;
    };

    // Can a packet in `chain` meet a HostPort producer's chain (or, in it, a DNAT)?
    enum class Goal : std::uint8_t { entry, dnat };
    bool leads_to(Goal goal, const Chain& chain, int depth = 0) {
        auto& known = (goal == Goal::entry ? leads_to_entry_ : leads_to_dnat_)[view_.place_of(chain)];
        if (!known) {
            // Deeper than is followed it may lead anywhere: whoever follows it says that it was too deep.
            known = depth > max_depth;
            if (depth <= max_depth) {
                known = (goal == Goal::dnat && has_dnat(chain)) || view_.any_jump(chain, [&](const Chain& next) {
                    return (goal == Goal::entry && producer_of_entry_chain(next.name)) ||
                           leads_to(goal, next, depth + 1);
                });
            }
        }
        return *known;
    }

    // Or a rule that may be one.
    [[nodiscard]] bool has_dnat(const Chain& chain) const {
        return std::ranges::any_of(view_.rules(chain), [](const Rule& rule) {
            return rule.target.kind == TargetKind::dnat || rule.target.kind == TargetKind::redirect ||
                   rule.target.kind == TargetKind::verdict_map ||
                   (rule.target.kind == TargetKind::none && !rule.unread.empty());
        });
    }

    bool concerns(const Rule& rule, const Path& path) {
        if (rule.target.kind == TargetKind::dnat || rule.target.kind == TargetKind::redirect ||
            rule.target.kind == TargetKind::verdict_map || ends_without_nat(rule)) {
            return true;
        }
        if (const Chain* next = view_.jump_of(rule)) {
            return path.producer ? leads_to(Goal::dnat, *next)
                                 : producer_of_entry_chain(next->name) || leads_to(Goal::entry, *next);
        }
        return rule.target.kind == TargetKind::none && !rule.unread.empty();
    }

    void follow(const Chain& chain, Path path, int depth) {
        const std::size_t at_entry = excluded_.size();
        RuleRange rules = view_.rules(chain);
        for (const Rule& rule : rules) {
            if (depth > max_depth) {
                unread_.add_rest(view_, chain, rule, "more chains one behind the other than are followed");
                break;
            }
            if (!work_.spend(rules.effort())) {
                unread_.add_rest(view_, chain, rule, too_many_ways);
                break;
            }
            if (concerns(rule, path) && follow(chain, rule, path, depth)) {
                break;
            }
        }
        excluded_.resize(at_entry);
    }

    // True: no packet gets past the rule.
    bool follow(const Chain& chain, const Rule& rule, Path& path, int depth) {
        if (!rule.unread.empty() || rule.target.kind == TargetKind::verdict_map) {  // no producer's, so far
            if (path.producer || view_.jump_of(rule) != nullptr) {
                unread_.add(view_, chain, rule);
            }
            path.conditional = path.conditional || ends_without_nat(rule);
            return false;
        }
        if (!work_.spend(path.ports ? path.ports->size() : 0)) {
            unread_.add_rest(view_, chain, rule, too_many_ways);
            return true;
        }
        const std::size_t before = excluded_.size();
        Path next = path;
        const bool can_be_met = next.add(rule, excluded_);
        if (can_be_met && !ends_without_nat(rule)) {
            if (const Chain* to = view_.jump_of(rule)) {
                enter(*to, chain, rule, next);
                follow(*to, std::move(next), depth + 1);
            } else if (path.producer && !rule.maps.empty()) {
                add_elements(chain, rule, next);
            } else if (path.producer) {
                add_leaf(chain, rule, next);
            }
        }
        excluded_.resize(before);
        if (can_be_met && ends_without_nat(rule)) {
            shield(rule, path);
        }
        return can_be_met && ends_chain(rule) && demands_nothing(rule);
    }

    static void enter(const Chain& to, const Chain& from, const Rule& rule, Path& path) {
        if (!path.producer) {
            path.producer = producer_of_entry_chain(to.name);
            path.entry_chain = path.producer ? &to : nullptr;
        } else if (path.entry_chain == nullptr) {  // native table: the first chain behind the base chain
            path.entry_chain = &to;
        } else if (path.entry_chain == &from) {
            path.entry_rule = &rule;
        }
    }

    // What a rule that keeps some packets back means for the rules behind it.
    void shield(const Rule& rule, Path& path) {
        if (demands_no_more_than_destinations(rule) && rule.destinations.size() == 1 &&
            !rule.destinations.front().inverted) {
            excluded_.push_back(rule.destinations.front().value);
        } else {
            path.conditional = true;
        }
    }

    void add_leaf(const Chain& chain, const Rule& rule, const Path& path) {
        const Target& target = rule.target;
        if (!target.to || target.to_last || !add_hostport(chain, rule, path, *target.to, nullptr, {})) {
            unread_.add(view_, chain, rule);
        }
    }

    // A DNAT to what a map yields: each of its elements is a rule, which a packet meets if its key is the element's.
    void add_elements(const Chain& chain, const Rule& rule, const Path& path) {
        const MapLookup& lookup = rule.maps.front();
        const NftSet* map = view_.find_set(lookup.map);
        if (map == nullptr) {  // an anonymous one: no producer's
            unread_.add(view_, chain, rule);
            return;
        }
        unread_.add_if_not_whole(view_, *map);
        for (const SetElement& element : map->elements) {
            if (!work_.spend(1)) {
                unread_.add_rest(view_, chain, rule, too_many_ways);
                return;
            }
            const auto demands = demands_of(lookup, element);
            const bool known =
                demands && (!demands->l4proto || protocol_from_number(demands->l4proto->value).has_value());
            Path next = path;
            if (known && !next.add(*demands, excluded_)) {
                continue;  // other rules on the way keep such packets off
            }
            if (!known || !add_hostport(chain, rule, next, element.to, map, element)) {
                unread_.add(view_, *map, element);
            }
        }
    }

    // `map`: whose `element` it is; null: the rule alone. False: it is not clear which ports lead where.
    bool add_hostport(const Chain& chain, const Rule& rule, const Path& path, const Endpoint& target, const NftSet* map,
                      const SetElement& element) {
        if (!path.protocol || !path.ports || !path.producer || target.ip.is_unspecified()) {
            return false;
        }
        if (path.family && *path.family != target.ip.family) {
            return true;
        }
        if (!work_.spend(path.ports->size() * (work_per_leaf + excluded_.size()))) {
            unread_.add_rest(view_, chain, rule, too_many_ways);
            return true;
        }
        HostPortRule hostport;
        hostport.producer = *path.producer;
        hostport.backend = view_.table().backend;
        hostport.family = target.ip.family;
        hostport.table = view_.table().name;
        hostport.chain = chain.name;
        hostport.entry_chain = path.entry_chain == nullptr ? chain.name : path.entry_chain->name;
        hostport.handle = rule.handle;
        hostport.text = rule_text(view_.table().backend, chain.name, rule);
        if (map != nullptr) {
            hostport.map = map->name;
            hostport.text += " { " + element_text(map->key, map->data, element) + " }";
        }
        hostport.protocol = *path.protocol;
        hostport.host_ip = path.host_ip;
        hostport.not_destinations = excluded_;
        (output_ ? hostport.local_only_output : hostport.local_only) = path.local;
        hostport.in_prerouting = !output_;
        hostport.in_output = output_;
        hostport.conditional = path.conditional;
        hostport.target = target;
        Owner owner = owner_of(rule, path);
        hostport.network = std::move(owner.network);
        hostport.container_id = std::move(owner.container_id);
        for (const PortRange& range : *path.ports) {
            hostport.port = range;
            if (!merge({.dnat = view_.identity(rule),
                        .entry = path.entry_rule == nullptr ? nullptr : view_.identity(*path.entry_rule),
                        .rule = hostport})) {
                unread_.add_rest(view_, chain, rule, too_many_ways);
                return true;
            }
        }
        return true;
    }

    [[nodiscard]] Owner owner_of(const Rule& rule, const Path& path) const {
        if (!view_.is_xtables() && path.producer == Producer::portmap) {
            return {{}, rule.comment};  // portmap_nftables.go: the bare container id
        }
        return parse_comment(path.entry_rule == nullptr ? rule.comment : path.entry_rule->comment);
    }

    // What makes a rule's way another one.
    static auto identity(const Leaf& leaf) {
        const HostPortRule& rule = leaf.rule;
        return std::tie(leaf.dnat, leaf.entry, rule.port, rule.protocol, rule.host_ip, rule.not_destinations);
    }
    static std::uint64_t fingerprint(const Leaf& leaf) {
        const auto add = [](const Prefix& prefix, Fingerprint& print) {
            print.add(std::as_bytes(std::span(prefix.address.bytes)));
            print.add(prefix.length);
        };
        Fingerprint print;
        print.add(std::bit_cast<std::uintptr_t>(leaf.dnat));
        print.add(std::bit_cast<std::uintptr_t>(leaf.entry));
        print.add(leaf.rule.port.first);
        print.add(leaf.rule.port.last);
        print.add(leaf.rule.protocol);
        if (leaf.rule.host_ip) {
            add(*leaf.rule.host_ip, print);
        }
        for (const Prefix& prefix : leaf.rule.not_destinations) {
            add(prefix, print);
        }
        return print.value();
    }

    // A rule reached from both hooks, or twice from one, is one rule. False: it is reached in more ways than anyone
    // needs for a hostPort.
    bool merge(Leaf leaf) {
        const auto [begin, end] = leaf_at_.equal_range(fingerprint(leaf));
        const auto known = std::find_if(
            begin, end, [&](const auto& entry) { return identity(leaves_[entry.second]) == identity(leaf); });
        if (known == end) {
            auto& ways = ways_[{leaf.dnat, leaf.rule.port, leaf.rule.protocol, leaf.rule.host_ip}];
            if (++ways > most_ways) {
                return false;
            }
            leaf_at_.emplace(fingerprint(leaf), leaves_.size());
            leaves_.push_back(std::move(leaf));
            return true;
        }
        join(leaf, leaves_[known->second].rule);
        return true;
    }

    void join(const Leaf& leaf, HostPortRule& rule) const {
        const bool again = output_ ? rule.in_output : rule.in_prerouting;
        bool& local = output_ ? rule.local_only_output : rule.local_only;
        const bool local_now = output_ ? leaf.rule.local_only_output : leaf.rule.local_only;
        local = again ? local && local_now : local_now;
        rule.conditional =
            again ? rule.conditional && leaf.rule.conditional : rule.conditional || leaf.rule.conditional;
        rule.in_prerouting = rule.in_prerouting || leaf.rule.in_prerouting;
        rule.in_output = rule.in_output || leaf.rule.in_output;
    }

    static constexpr int max_depth = 32;
    static constexpr std::size_t work_per_leaf = 32;  // it has texts
    static constexpr std::uint32_t most_ways = 64;    // a producer makes two
    static constexpr std::string_view too_many_ways = "chains fork into more ways than are followed";

    const TableView& view_;
    UnreadRules& unread_;
    Work& work_;
    bool output_ = false;
    std::vector<Prefix> excluded_;                     // destinations of which no packet gets to where the walk is
    std::vector<std::optional<bool>> leads_to_entry_;  // by the chain's place
    std::vector<std::optional<bool>> leads_to_dnat_;
    std::vector<Leaf> leaves_;
    std::unordered_multimap<std::uint64_t, std::size_t> leaf_at_;  // by fingerprint
    std::map<std::tuple<const void*, PortRange, Protocol, std::optional<Prefix>>, std::uint32_t> ways_;
};

}  // namespace

std::optional<Producer> producer_of_entry_chain(std::string_view chain) {
    return find(entry_chains, chain);
}

void interpret_hostports(const TableView& table, std::vector<HostPortRule>& hostports, UnreadRules& unread,
                         Work& work) {
    if (table.is_xtables() ? table.table().name != "nat" : !find(native_tables, table.table().name)) {
        return;
    }
    for (HostPortRule& rule : Walker(table, unread, work).walk()) {
        hostports.push_back(std::move(rule));
    }
}

}  // namespace hptrace
