// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/reader.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "base/clock.hpp"
#include "base/memory.hpp"
#include "state/netns.hpp"

namespace hptrace {

namespace {

// How often the node is read because it changed meanwhile, and for how long: where reading takes longer than kube-proxy
// needs for the next change, trying again does not help.
constexpr int attempts = 3;
constexpr std::uint64_t quick_ns = 100'000'000;

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

bool same(const SourceStatus& a, const SourceStatus& b) {
    return a.state == b.state && a.why == b.why;
}

template <class T>
SourceStatus status_of(const std::vector<T>& content) {
    return {.state = content.empty() ? SourceState::unused : SourceState::used, .why = {}};
}

// Asks the source; `keep` makes what is kept of its content. True: the part is different now.
template <class Part, class Read, class Keep>
bool update(Part& part, const Read& read, Keep keep) {
    auto answer = read(part.version);
    if (!answer) {
        const SourceStatus status{.state = SourceState::unreadable, .why = describe(answer.error())};
        if (same(part.status, status) && !part.version) {
            return false;
        }
        part = Part{};
        part.status = status;
        return true;
    }
    auto& found = *answer;
    if (!found) {
        return false;
    }
    auto& [version, content] = *found;
    part.status = status_of(content);
    part.version = version;
    part.content = keep(std::move(content));
    return true;
}

constexpr auto as_it_is = []<class T>(T&& content) { return std::make_shared<const T>(std::forward<T>(content)); };

// NOLINTNEXTLINE(cppcoreguidelines-rvalue-reference-param-not-moved): it ends here, and its memory with it
constexpr auto interpreted = [](std::vector<RuleTable>&& tables) {
    const auto all = std::move(tables);
    return std::make_shared<const RulesPart>(interpret_source(all));
};

}  // namespace

NodeReader::NodeReader(NodeSources sources, ChangeCounters counters)
    : sources_(std::move(sources)),
      counters_(std::move(counters)),
      node_(host_name()),
      netns_(current_netns_inode().value_or(0)) {}

hptrace_changes NodeReader::now() const {
    return counters_.now ? counters_.now(netns_) : hptrace_changes{};
}

template <class T, class Update>
bool NodeReader::update_counted(Part<T>& part, hptrace_source source, const hptrace_changes& changes, Update update) {
    const std::pair counted(changes.begin[source], changes.end[source]);
    const bool tracked = counters_.tracked && (counters_.tracked() & 1U << source) != 0;
    if (tracked && part.version && part.counted == counted) {
        return false;
    }
    const bool different = update(part);
    // Read while it changes, it may be either side of the change: the next reading must not believe it.
    part.counted = counted.first == counted.second ? std::optional(counted) : std::nullopt;
    return different;
}

bool NodeReader::update_all(const hptrace_changes& changes) {
    const auto rules = [&](const auto& read) { return [&](auto& part) { return update(part, read, interpreted); }; };
    bool different = update_counted(legacy_ipv4_, HPTRACE_SOURCE_XTABLES, changes, rules(sources_.legacy_ipv4));
    different |= update_counted(legacy_ipv6_, HPTRACE_SOURCE_XTABLES, changes, rules(sources_.legacy_ipv6));
    different |= update_counted(nf_tables_, HPTRACE_SOURCE_NFTABLES, changes, [this](auto& part) {
        return update(part, sources_.nf_tables, [this](std::vector<RuleTable>&& tables) {
            auto meaning = std::make_shared<const RulesPart>(interpret_source(tables));
            sources_.give_back_nf_tables(std::move(tables));
            return meaning;
        });
    });
    different |= update_counted(ip_vs_, HPTRACE_SOURCE_IPVS, changes,
                                [this](auto& part) { return update(part, sources_.ip_vs, as_it_is); });
    different |= update(ipset_, [&](auto known) { return sources_.ipset(set_question(), known); }, as_it_is);
    routes_announced_ = sources_.routes_changed() || routes_announced_;
    if (routes_announced_ || !routes_.version) {
        routes_announced_ = false;
        different |= update(routes_, sources_.routes, as_it_is);
    }
    if (auto news = sources_.pods()) {
        pods_ = *std::move(news);
        different = true;
    }
    return different;
}

KubeSetQuestion NodeReader::set_question() const {
    KubeSetQuestion question{.served = set_queries(*ip_vs_.content), .hostport_ports = {}};
    std::set<Endpoint> ports;
    for (const auto* part : {&legacy_ipv4_, &legacy_ipv6_, &nf_tables_}) {
        for (const auto& rule : part->content->hostports) {
            if (rule.protocol != Protocol::tcp) {
                continue;
            }
            for (std::uint32_t port = rule.port.first; port <= rule.port.last; ++port) {
                ports.insert({.ip = Address{.family = rule.family}, .port = static_cast<std::uint16_t>(port)});
            }
        }
    }
    question.hostport_ports.assign(ports.begin(), ports.end());
    return question;
}

bool StateRead::consistent() const {
    return same(changes, changes_after) && !change_under_way(changes);
}

StateRead NodeReader::read() {
    StateRead read;
    bool different = state_ == nullptr;
    const auto begun = boot_clock_ns();
    for (int i = 0; i < attempts && (i == 0 || boot_clock_ns() - begun < quick_ns); ++i) {
        read.boot_ns = boot_clock_ns();
        read.changes = now();
        different |= update_all(read.changes);
        read.changes_after = now();
        if (read.consistent()) {
            break;
        }
    }
    if (different) {
        state_ = assemble(read.boot_ns);
        give_back_memory();
    }
    read.state = state_;
    constexpr std::uint32_t all =
        1U << HPTRACE_SOURCE_XTABLES | 1U << HPTRACE_SOURCE_NFTABLES | 1U << HPTRACE_SOURCE_IPVS;
    read.watched =
        counters_.tracked && (counters_.tracked() & all) == all && ipset_.status.state == SourceState::unused;
    return read;
}

bool NodeReader::announced() {
    routes_announced_ = sources_.routes_changed() || routes_announced_;
    return routes_announced_ || sources_.pods_announced();
}

NodeStatePtr NodeReader::assemble(std::uint64_t boot_ns) const {
    NodeState state;
    state.node = node_;
    state.netns = netns_;
    state.boot_ns = boot_ns;
    state.real_ns = real_clock_ns();
    state.local_addresses = *routes_.content;
    state.sandboxes = pods_.sandboxes;
    state.sandboxes_complete = pods_.sandboxes_complete;
    for (const auto* part : {&legacy_ipv4_, &legacy_ipv6_, &nf_tables_}) {
        add_rules(*part->content, state);
    }
    add_ipvs_services(*ip_vs_.content, *ipset_.content, state);
    for (const auto& rule : state.hostports) {  // of nobody else it matters
        if (const auto gone = pods_.gone_sandboxes.find(rule.container_id); gone != pods_.gone_sandboxes.end()) {
            state.gone_sandboxes.insert(*gone);
        }
    }
    state.sources = {{"iptables-legacy", legacy_ipv4_.status},
                     {"ip6tables-legacy", legacy_ipv6_.status},
                     {"nf_tables", nf_tables_.status},
                     {"ip_vs", ip_vs_.status},
                     {"ipset", ipset_.status},
                     {"routes", routes_.status}};
    state.sources.insert(pods_.sources.begin(), pods_.sources.end());
    state.index();
    return std::make_shared<const NodeState>(std::move(state));
}

StateRead NetnsVisitor::read() {
    auto place = find_netns(inode_);
    const auto guard = place ? NetnsGuard::enter(*place) : std::unexpected(place.error());
    if (!guard) {
        reader_.reset();
        return nothing_read(describe(guard.error()));
    }
    const auto cookie = current_netns_cookie();
    if (!reader_ || !cookie || cookie != cookie_) {
        reader_.emplace(visited_sources(PodFolders::below(node_root_of(place->pid, host_root_)), foreign_nft_limits),
                        counters_);
        cookie_ = cookie;
    }
    return reader_->read();
}

StateRead NetnsVisitor::nothing_read(std::string why) const {
    NodeState state;
    state.node = host_name();
    state.netns = inode_;
    state.boot_ns = boot_clock_ns();
    state.sources.emplace(netns_source, SourceStatus{.state = SourceState::unreadable, .why = std::move(why)});
    state.index();
    StateRead read;
    read.boot_ns = state.boot_ns;
    read.changes = read.changes_after = counters_.now ? counters_.now(inode_) : hptrace_changes{};
    read.state = std::make_shared<const NodeState>(std::move(state));
    return read;
}

StateRead read_node_state(const ReaderOptions& options) {
    ChangeCounters counters;
    if (options.changes) {
        counters.now = [&options](std::uint32_t /*netns*/) { return options.changes(); };
    }
    return NodeReader(visited_sources(options.pods), std::move(counters)).read();
}

}  // namespace hptrace
