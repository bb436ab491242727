// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/reader.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "base/clock.hpp"
#include "state/addresses.hpp"
#include "state/cni_cache.hpp"
#include "state/ipset.hpp"
#include "state/ipvs.hpp"
#include "state/netns.hpp"
#include "state/ruleset.hpp"

namespace hptrace {

namespace {

// How often the node is read again because it changed meanwhile.
constexpr int attempts = 3;

std::string host_name() {
    std::array<char, 256> name{};
    return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : std::string();
}

bool same(const hptrace_changes& a, const hptrace_changes& b) {
    return std::ranges::equal(a.begin, b.begin) && std::ranges::equal(a.end, b.end);
}

bool change_under_way(const hptrace_changes& changes) {
    return !std::ranges::equal(changes.begin, changes.end);
}

// Records what became of a source and gives its entries; none if it could not be read.
template <class T>
std::vector<T> take(NodeState& state, const std::string& source, Result<std::vector<T>> read) {
    auto& status = state.sources[source];
    if (!read) {
        status = {.state = SourceState::unreadable, .why = describe(read.error())};
        return {};
    }
    status.state = read->empty() ? SourceState::unused : SourceState::used;
    return *std::move(read);
}

std::vector<RuleTable> read_rules(NodeState& state) {
    auto tables = take(state, "iptables-legacy", read_legacy_tables(Family::ipv4));
    std::ranges::move(take(state, "ip6tables-legacy", read_legacy_tables(Family::ipv6)), std::back_inserter(tables));
    std::ranges::move(take(state, "nf_tables", read_nf_tables()), std::back_inserter(tables));
    return tables;
}

NodeState read_once(const ReaderOptions& options) {
    NodeState state;
    state.node = host_name();
    state.boot_ns = boot_clock_ns();
    state.netns = current_netns_inode().value_or(0);
    const auto changes = [&] { return options.changes ? options.changes() : hptrace_changes{}; };
    state.changes = changes();

    const auto tables = read_rules(state);
    const auto servers = take(state, "ip_vs", read_virtual_servers());
    const auto sets = take(state, "ipset", read_ipsets(kube_set_prefix));
    state.local_addresses = take(state, "routes", read_local_addresses());
    auto cache = read_cni_cache(options.cni_results);
    state.consistent = same(state.changes, changes()) && !change_under_way(state.changes);

    state.sandboxes = std::move(cache.sandboxes);
    state.sandboxes_complete = cache.complete;
    state.sources["cni"] = std::move(cache.status);
    interpret_rules(tables, state);
    add_ipvs_services(servers, sets, state);
    return state;
}

}  // namespace

NodeStatePtr read_node_state(const ReaderOptions& options) {
    auto state = read_once(options);
    for (int i = 1; i < attempts && !state.consistent; ++i) {
        state = read_once(options);
    }
    state.index();
    return std::make_shared<const NodeState>(std::move(state));
}

}  // namespace hptrace
