// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/dump_checks.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>

#include "base/excerpt.hpp"
#include "state/dump_files.hpp"
#include "state/kube_sets.hpp"

namespace hptrace {
namespace {

constexpr std::string_view service_device = "kube-ipvs0";  // of kube-proxy's ipvs mode

void contradict(SourceStatuses& sources, std::string_view source, std::string why) {
    SourceStatus& status = sources[std::string(source)];
    if (status.state != SourceState::unreadable) {
        status = {.state = SourceState::unreadable, .why = std::move(why)};
    }
}

std::string and_more(std::size_t count) {
    return count > 1 ? fmt::format(" and {} more", count - 1) : std::string();
}

const DumpFile& legacy_file(Family family) {
    return family == Family::ipv4 ? dump_file::iptables_legacy : dump_file::ip6tables_legacy;
}
const DumpFile& nft_file(Family family) {
    return family == Family::ipv4 ? dump_file::iptables_nft : dump_file::ip6tables_nft;
}

bool has_rules(const RuleTable& table) {
    return std::ranges::any_of(table.chains, [](const Chain& chain) { return !chain.rules.empty(); });
}

const RuleTable* find_table(const std::vector<RuleTable>& tables, std::string_view name) {
    const auto found = std::ranges::find(tables, name, &RuleTable::name);
    return found == tables.end() ? nullptr : &*found;
}

// --- iptables-legacy: one file per family is all there is. ---

// Who makes chains that begin so in one table has rules in the other one, too.
struct Companion {
    std::string_view table;
    std::string_view chain;
    std::string_view other_table;
};
constexpr std::array companions{
    Companion{"nat", "KUBE-SVC-", "filter"},      // kube-proxy, iptables mode: Services without endpoints
    Companion{"filter", "KUBE-SERVICES", "nat"},  // the same
    Companion{"filter", "KUBE-FORWARD", "nat"},   // kube-proxy, every mode with iptables
    Companion{"filter", "DOCKER", "nat"},        Companion{"filter", "NETAVARK_", "nat"},
};

void check_legacy(Family family, const DumpRules& rules, SourceStatuses& sources) {
    const DumpFile& file = legacy_file(family);
    const SavedTables& saved = rules.legacy.at(family);
    if (saved.tables.empty() && rules.nft.at(family).notes.legacy_tables) {
        contradict(sources, file.source,
                   fmt::format("no table is known of, but {} says that there are some", nft_file(family).name));
    }
    for (const auto& [name, prefix, other] : companions) {
        const RuleTable* const table = find_table(saved.tables, name);
        if (table == nullptr || find_table(saved.tables, other) != nullptr) {
            continue;
        }
        const auto chain = std::ranges::find_if(
            table->chains, [prefix](const Chain& candidate) { return candidate.name.starts_with(prefix); });
        if (chain != table->chains.end()) {
            contradict(sources, file.source,
                       fmt::format("{}: no table {} in it, where the owner of chain {} has rules, too: saved with -t, "
                                   "or cut off",
                                   file.name, other, excerpt(chain->name)));
        }
    }
}

// --- nf_tables: nft.json has all tables, and iptables-nft's files have again what iptables-nft made. ---

bool may_be_of_iptables(const RuleTable& table, Family family) {
    return table.families == std::vector{family} && (table.name == "nat" || table.name == "filter");
}

// A chain with rules that iptables-nft would show; base chains of other names are not its own.
bool must_be_saved(const Chain& chain) {
    return !chain.rules.empty() && (!chain.hook || chain.name == *chain.hook);
}

void check_nft_table(const RuleTable& table, Family family, const SavedTables& saved, SourceStatuses& sources) {
    const DumpFile& file = nft_file(family);
    const RuleTable* const found = find_table(saved.tables, table.name);
    if (found == nullptr) {
        const bool hidden = std::ranges::find(saved.notes.hidden_tables, table.name) != saved.notes.hidden_tables.end();
        contradict(sources, file.source,
                   hidden ? fmt::format("{}: iptables-nft could not read table {}", file.name, table.name)
                          : fmt::format("{}: no table {} in it, which {} has: saved with -t, or cut off", file.name,
                                        table.name, dump_file::nft.name));
        return;
    }
    std::set<std::string_view> names;
    for (const Chain& chain : found->chains) {
        names.insert(chain.name);
    }
    for (const Chain& chain : table.chains) {
        if (must_be_saved(chain) && !names.contains(chain.name)) {
            contradict(sources, file.source,
                       fmt::format("{}: no chain {} in table {}, which {} has: not all of it, or of another time",
                                   file.name, excerpt(chain.name), table.name, dump_file::nft.name));
            return;
        }
    }
}

void check_nft(Family family, const DumpRules& rules, SourceStatuses& sources) {
    const DumpFile& file = nft_file(family);
    const SavedTables& saved = rules.nft.at(family);
    for (const RuleTable& table : rules.nft_json) {
        if (saved.understood && may_be_of_iptables(table, family) && has_rules(table)) {
            check_nft_table(table, family, saved, sources);
        }
    }
    for (const std::string& hidden : saved.notes.hidden_tables) {
        if (std::ranges::none_of(
                rules.nft_json,
                [&](const RuleTable& table) { return may_be_of_iptables(table, family) && table.name == hidden; }) &&
            (hidden == "nat" || hidden == "filter")) {
            contradict(sources, file.source,
                       fmt::format("{}: iptables-nft could not read table {}", file.name, hidden));
        }
    }
    for (const RuleTable& table : saved.tables) {
        if (has_rules(table) && std::ranges::none_of(rules.nft_json, [&](const RuleTable& known) {
                return may_be_of_iptables(known, family) && known.name == table.name;
            })) {
            contradict(sources, file.source,
                       rules.nft_json_understood
                           ? fmt::format("{}: no table {} in it, which {} has: not all of it, or of another time",
                                         dump_file::nft.name, table.name, file.name)
                           : fmt::format("{} is not in the dump, but {} has rules", dump_file::nft.name, file.name));
        }
    }
}

// --- ipset: the kernel lets no set go that a rule matches. ---

void add_set_names(const std::map<Family, SavedTables>& saved, std::set<std::string_view>& names) {
    for (const auto& [family, file] : saved) {
        for (const RuleTable& table : file.tables) {
            for (const Chain& chain : table.chains) {
                for (const Rule& rule : chain.rules) {
                    for (const auto& match : rule.sets) {
                        names.insert(match.value.set);
                    }
                }
            }
        }
    }
}

void check_set_names(const DumpRules& rules, SourceStatuses& sources) {
    std::set<std::string_view> matched;
    add_set_names(rules.legacy, matched);
    add_set_names(rules.nft, matched);
    std::vector<std::string_view> missing;
    std::ranges::set_difference(matched, rules.set_names, std::back_inserter(missing), std::ranges::less{});
    if (!missing.empty()) {
        contradict(sources, dump_file::ipset.source,
                   fmt::format("{} not known, but rules match {}",
                               missing.size() == 1 ? std::string("set is") : std::string("sets are"),
                               excerpt(missing.front()) + and_more(missing.size())));
    }
}

// --- ip_vs: kube-proxy keeps what it serves in its sets and on its device as well. ---

using ServerKey = std::tuple<Address, std::uint16_t, Protocol>;

struct Served {
    std::set<ServerKey> at;
    std::set<std::tuple<Family, std::uint16_t, Protocol>> ports;
    std::set<Address> addresses;
};

Served index_of(const std::vector<VirtualServer>& servers) {
    Served served;
    for (const VirtualServer& server : servers) {
        served.addresses.insert(server.address.ip);
        if (const auto protocol = protocol_from_number(server.protocol)) {
            served.at.emplace(server.address.ip, server.address.port, *protocol);
            served.ports.emplace(server.family, server.address.port, *protocol);
        }
    }
    return served;
}

bool is_link_local(const Address& address) {
    return address.family == Family::ipv6 && address.bytes[0] == 0xfe && (address.bytes[1] & 0xc0U) == 0x80U;
}

// The addresses of Services that kube-proxy's ipvs mode has put onto its device.
std::set<Address> addresses_on_device(const DumpServices& services, const NodeState& state) {
    std::set<Address> found;
    for (const auto* const list : {&services.addresses, &state.local_addresses}) {
        for (const LocalAddress& local : *list) {
            if (local.device == service_device && !is_link_local(local.prefix.address)) {
                found.insert(local.prefix.address);
            }
        }
    }
    return found;
}

std::string described(const SetService& service) {
    return service.ip
               ? fmt::format("{}/{}", to_string(Endpoint{*service.ip, service.port}), to_string(service.protocol))
               : fmt::format("NodePort {}/{}", service.port, to_string(service.protocol));
}

// Why there must be virtual servers if there are none; nothing: no reason.
std::optional<std::string> sign_of_servers(const std::set<Address>& on_device, const std::vector<SetService>& in_sets,
                                           const NodeState& state) {
    if (!on_device.empty()) {
        return fmt::format("{} has {} address{}", service_device, on_device.size(), on_device.size() == 1 ? "" : "es");
    }
    if (state.proxy == ProxyMode::ipvs) {
        return "rules are those of kube-proxy's ipvs mode";
    }
    if (!in_sets.empty()) {
        return fmt::format("set {} has Services", in_sets.front().set);
    }
    return std::nullopt;
}

void check_servers(const DumpServices& services, NodeState& state) {
    if (state.proxy == ProxyMode::iptables || state.proxy == ProxyMode::nftables) {
        return;  // what another mode of kube-proxy left behind says nothing
    }
    const auto on_device = addresses_on_device(services, state);
    const auto in_sets = services_of_sets(services.sets);
    if (services.servers.empty()) {
        if (const auto sign = sign_of_servers(on_device, in_sets, state)) {
            contradict(state.sources, dump_file::ipvs.source,
                       fmt::format("no virtual server is known of, but {}", *sign));
        }
        return;
    }
    const Served served = index_of(services.servers);
    std::vector<const SetService*> not_served;
    for (const SetService& service : in_sets) {
        const bool is_served = service.ip ? served.at.contains({*service.ip, service.port, service.protocol})
                                          : served.ports.contains({service.family, service.port, service.protocol});
        if (!is_served) {
            not_served.push_back(&service);
        }
    }
    if (!not_served.empty()) {
        contradict(state.sources, dump_file::ipvs.source,
                   fmt::format("no virtual server for {} of set {}{}: not all of it, or of another time",
                               described(*not_served.front()), not_served.front()->set, and_more(not_served.size())));
    }
    std::vector<Address> bare;
    std::ranges::set_difference(on_device, served.addresses, std::back_inserter(bare));
    if (!bare.empty()) {
        contradict(state.sources, dump_file::ipvs.source,
                   fmt::format("no virtual server for {} on {}{}: not all of it, or of another time",
                               to_string(bare.front()), service_device, and_more(bare.size())));
    }
}

// --- Addresses, and whose rules there are. ---

// Every address of an interface has a local route, but for those in a VRF.
void check_addresses(const DumpServices& services, NodeState& state) {
    bool any = false;
    bool any_local = false;
    for (const LocalAddress& address : services.addresses) {
        const bool local = state.find_local(address.prefix.address) != nullptr;
        if (address.device == service_device && !local && !is_link_local(address.prefix.address)) {
            contradict(state.sources, dump_file::routes.source,
                       fmt::format("{} of {} is not local in it: not all of it, or of another time",
                                   to_string(address.prefix.address), service_device));
        }
        if (address.device != "lo") {
            any = true;
            any_local = any_local || local;
        }
    }
    if (any && !any_local) {
        contradict(state.sources, dump_file::routes.source,
                   fmt::format("no address of {} is local in it: of another network namespace, or another time",
                               dump_file::addresses.name));
    }
}

void check_sandboxes(const DumpServices& services, NodeState& state) {
    if (!services.has_cni_folder || !state.sandboxes.empty()) {
        return;
    }
    std::set<std::string_view> named;
    for (const HostPortRule& rule : state.hostports) {
        if (!rule.container_id.empty()) {
            named.insert(rule.container_id);
        }
    }
    if (!named.empty()) {
        contradict(state.sources, dump_file::cni.source,
                   fmt::format("{} is empty, but rules name {} sandbox{}", dump_file::cni.name, named.size(),
                               named.size() == 1 ? "" : "es"));
    }
}

}  // namespace

void check_rules(const DumpRules& rules, SourceStatuses& sources) {
    for (const auto family : {Family::ipv4, Family::ipv6}) {
        check_legacy(family, rules, sources);
        check_nft(family, rules, sources);
    }
    check_set_names(rules, sources);
}

void check_services(const DumpServices& services, NodeState& state) {
    check_servers(services, state);
    check_addresses(services, state);
    check_sandboxes(services, state);
    state.sandboxes_complete =
        state.sandboxes_complete && state.sources[std::string(dump_file::cni.source)].state == SourceState::used;
}

}  // namespace hptrace
