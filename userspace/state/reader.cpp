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
    return a.state == b.state && a.why == b.why && a.kept_from_ns == b.kept_from_ns;
}

template <class T>
SourceStatus status_of(const std::vector<T>& content) {
    return {.state = content.empty() ? SourceState::unused : SourceState::used, .why = {}};
}

// Asks the source; `keep` makes what is kept of its content. True: the part is different now.
template <class Part, class Read, class Keep>
bool update(Part& part, const Read& read, Keep keep) {
    const auto begun = boot_clock_ns();
    auto answer = read(part.version);
    if (!answer) {
        SourceStatus status{.state = SourceState::unreadable, .why = describe(answer.error())};
        if (part.version) {
            status.state = part.status.state;
            status.kept_from_ns = part.read_ns;
        }
        return !same(std::exchange(part.status, status), status);
    }
    part.read_ns = begun;
    auto& found = *answer;
    if (!found) {  // it is as it was
        const bool was_kept = part.status.kept_from_ns.has_value();
        part.status = {.state = part.status.state, .why = {}};
        return was_kept;
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
bool NodeReader::update_counted(Part<T>& part, hptrace_source source, Update update) {
    const auto changes = now();
    const std::pair counters(changes.begin[source], changes.end[source]);
    const bool tracked = counters_.tracked && (counters_.tracked() & 1U << source) != 0;
    if (tracked && part.settled && part.counters == counters && !part.status.kept_from_ns) {
        return false;
    }
    const bool different = update(part);
    if (!part.status.kept_from_ns) {
        part.counters = counters;
        // Read while it changes, it may be either side of the change: the next reading must not believe it.
        part.settled = tracked && part.version && counters.first == counters.second;
    }
    return different;
}

bool NodeReader::update_nf_tables() {
    return update_counted(nf_tables_, HPTRACE_SOURCE_NFTABLES, [this](auto& part) {
        return update(part, sources_.nf_tables, [this](std::vector<RuleTable>&& tables) {
            auto meaning = std::make_shared<const RulesPart>(interpret_source(tables));
            sources_.give_back_nf_tables(std::move(tables));
            return meaning;
        });
    });
}

bool NodeReader::update_all() {
    const auto rules = [](const auto& read) { return [&](auto& part) { return update(part, read, interpreted); }; };
    bool different = update_counted(legacy_ipv4_, HPTRACE_SOURCE_XTABLES, rules(sources_.legacy_ipv4));
    different |= update_counted(legacy_ipv6_, HPTRACE_SOURCE_XTABLES, rules(sources_.legacy_ipv6));
    different |= update_nf_tables();
    different |= update_counted(ip_vs_, HPTRACE_SOURCE_IPVS,
                                [this](auto& part) { return update(part, sources_.ip_vs, as_it_is); });
    different |= update(ipset_, [&](auto known) { return sources_.ipset(set_question(), known); }, as_it_is);
    routes_announced_ = sources_.routes_changed() || routes_announced_;
    if (routes_announced_ || !routes_.version || routes_.status.kept_from_ns) {
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

void NodeReader::date(StateRead& read) const {
    const auto earlier = [](const auto& a, const auto& b) {
        return static_cast<std::int32_t>(a.counters.first - b.counters.first) < 0;  // they wrap around
    };
    read.changes = read.changes_after;
    const auto begin = [&](hptrace_source source, const auto& part) {
        read.changes.begin[source] = part.counters.first;
        read.changes.end[source] = part.counters.second;
    };
    begin(HPTRACE_SOURCE_XTABLES, earlier(legacy_ipv4_, legacy_ipv6_) ? legacy_ipv4_ : legacy_ipv6_);
    begin(HPTRACE_SOURCE_NFTABLES, nf_tables_);
    begin(HPTRACE_SOURCE_IPVS, ip_vs_);
    for (const auto& kept :
         {legacy_ipv4_.status, legacy_ipv6_.status, nf_tables_.status, ip_vs_.status, routes_.status}) {
        read.boot_ns = std::min(read.boot_ns, kept.kept_from_ns.value_or(read.boot_ns));
    }
}

StateRead NodeReader::read() {
    StateRead read;
    bool different = state_ == nullptr;
    const auto begun = boot_clock_ns();
    const auto quick = [begun] { return boot_clock_ns() - begun < quick_ns; };
    for (int i = 0; i < attempts && (i == 0 || (quick() && !read.consistent())); ++i) {
        read.boot_ns = boot_clock_ns();
        different |= update_all();
        read.changes_after = now();
        date(read);
    }
    // Reading took long, and something changed meanwhile. nf_tables tells at once whether what was read is the current
    // generation: then it is from after all that had changed by now, however long ago reading began.
    if (!quick() && !read.consistent()) {
        different |= update_nf_tables();
        read.changes_after = now();
        date(read);
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
    read.took_ns = boot_clock_ns() - begun;
    return read;
}

bool NodeReader::announced() {
    sources_.rest_nf_tables();
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

NodeStatePtr unread_state(std::uint32_t netns, std::string why) {
    NodeState state;
    state.node = host_name();
    state.netns = netns;
    state.boot_ns = boot_clock_ns();
    state.sources.emplace(netns_source, SourceStatus{.state = SourceState::unreadable, .why = std::move(why)});
    state.index();
    return std::make_shared<const NodeState>(std::move(state));
}

StateRead NetnsVisitor::read() {
    auto place = find_netns(inode_);
    const auto guard = place ? NetnsGuard::enter(*place) : std::unexpected(place.error());
    if (!guard) {
        reader_.reset();
        StateRead nothing;
        nothing.state = unread_state(inode_, describe(guard.error()));
        nothing.boot_ns = nothing.state->boot_ns;
        nothing.changes = nothing.changes_after = counters_.now ? counters_.now(inode_) : hptrace_changes{};
        return nothing;
    }
    const auto cookie = current_netns_cookie();
    if (!reader_ || !cookie || cookie != cookie_) {
        reader_.emplace(visited_sources(PodFolders::below(node_root_of(place->pid, host_root_)), foreign_nft_limits),
                        counters_);
        cookie_ = cookie;
    }
    return reader_->read();
}

StateRead read_node_state(const ReaderOptions& options) {
    ChangeCounters counters;
    if (options.changes) {
        counters.now = [&options](std::uint32_t) { return options.changes(); };
    }
    return NodeReader(visited_sources(options.pods), std::move(counters)).read();
}

}  // namespace hptrace
