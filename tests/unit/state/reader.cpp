// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/reader.hpp"

#include <unistd.h>

#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cstdio>
#include <filesystem>
#include <set>
#include <string>

#include "fresh_netns.hpp"
#include "state/conntrack_dump.hpp"
#include "state/netns.hpp"
#include "state/sources.hpp"

using namespace hptrace;

namespace {

hptrace_changes counters(std::uint32_t begin, std::uint32_t end) {
    hptrace_changes changes{};
    changes.begin[HPTRACE_SOURCE_NFTABLES] = begin;
    changes.end[HPTRACE_SOURCE_NFTABLES] = end;
    return changes;
}

// What must be the same after reading: modules, tables, hooks, rules and sets.
std::string shown_by_the_node() {
    constexpr auto command =
        "cat /proc/modules 2>/dev/null; for f in ip_tables_names ip6_tables_names; do echo $f:; "
        "cat /proc/net/$f 2>/dev/null; done; nft list ruleset; nft list hooks 2>&1; ipset list -n 2>&1";
    std::FILE* const pipe = ::popen(command, "re");
    if (pipe == nullptr) {
        throw std::runtime_error("popen");
    }
    std::string text;
    std::array<char, 4096> chunk{};
    for (std::size_t length = 0; (length = std::fread(chunk.data(), 1, chunk.size(), pipe)) > 0;) {
        text.append(chunk.data(), length);
    }
    ::pclose(pipe);
    return text;
}

struct BeforeAndAfter {
    std::string before;
    std::string after;
    NodeStatePtr state;
    bool connections_read = false;
};

BeforeAndAfter read_everything() {
    BeforeAndAfter seen;
    seen.before = shown_by_the_node();
    seen.state = read_node_state({.pods = PodFolders::below("/no/such/folder"), .changes = {}}).state;
    auto existing = ConntrackDump::begin();
    seen.connections_read = existing && existing->next();
    seen.after = shown_by_the_node();
    return seen;
}

SourceState source(const NodeStatePtr& state, const std::string& name) {
    return state->sources.at(name).state;
}

}  // namespace

TEST_CASE("reading an untouched namespace leaves it untouched", "[reader]") {
    const auto seen = in_fresh_netns(read_everything);
    CHECK(seen.before == seen.after);
    CHECK(seen.before.find("nat") == std::string::npos);
    CHECK(seen.state->all_sources_read());
    CHECK(seen.connections_read);
    for (const auto* const name : {"iptables-legacy", "ip6tables-legacy", "nf_tables", "ip_vs", "ipset", "cni"}) {
        INFO(name);
        CHECK(source(seen.state, name) == SourceState::unused);
    }
    CHECK(seen.state->services.empty());
    CHECK(seen.state->proxy == ProxyMode::none);
}

TEST_CASE("reading one back end does not bring in the other", "[reader]") {
    const auto legacy_only = in_fresh_netns([] {
        run("iptables-legacy -w -t nat -N CNI-HOSTPORT-DNAT && ip link set lo up");
        return read_everything();
    });
    CHECK(legacy_only.before == legacy_only.after);
    CHECK(source(legacy_only.state, "iptables-legacy") == SourceState::used);
    CHECK(source(legacy_only.state, "ip6tables-legacy") == SourceState::unused);
    CHECK(source(legacy_only.state, "nf_tables") == SourceState::unused);
    CHECK(source(legacy_only.state, "routes") == SourceState::used);

    const auto nft_only = in_fresh_netns([] {
        run("iptables-nft -w -t nat -A PREROUTING -j ACCEPT");
        return read_everything();
    });
    CHECK(nft_only.before == nft_only.after);
    CHECK(source(nft_only.state, "iptables-legacy") == SourceState::unused);
    CHECK(source(nft_only.state, "nf_tables") == SourceState::used);
}

TEST_CASE("the state names its node and namespace", "[reader]") {
    std::array<char, 256> name{};
    REQUIRE(::gethostname(name.data(), name.size()) == 0);
    const auto [read, netns] = in_fresh_netns([] {
        return std::pair{read_node_state({.pods = PodFolders::below("/no/such/folder"), .changes = {}}),
                         current_netns_inode().value()};
    });
    CHECK(read.state->node == name.data());
    CHECK(read.state->netns == netns);
    CHECK(read.state->boot_ns != 0);
    CHECK(read.boot_ns == read.state->boot_ns);
    CHECK(read.consistent());
}

TEST_CASE("a state read during a change is read again, and said to be inconsistent if that goes on", "[reader]") {
    const auto read_with = [](std::function<hptrace_changes()> changes) {
        return in_fresh_netns([&] {
            return read_node_state({.pods = PodFolders::below("/no/such/folder"), .changes = std::move(changes)});
        });
    };
    // The first read of a process looks for what is built into the kernel: that takes too long to try again.
    CHECK(read_with({}).consistent());
    std::uint32_t calls = 0;
    const auto never_still = read_with([&] {
        ++calls;
        return counters(calls, calls);
    });
    CHECK_FALSE(never_still.consistent());
    const auto one_reading = calls / 3;
    CHECK(one_reading > 1);

    calls = 0;
    const auto moved_once = read_with([&] { return ++calls < one_reading ? counters(0, 0) : counters(1, 1); });
    CHECK(moved_once.consistent());
    CHECK(moved_once.changes.begin[HPTRACE_SOURCE_NFTABLES] == 1);
    CHECK(calls > one_reading);

    const auto under_way = read_with([&] { return counters(1, 0); });
    CHECK_FALSE(under_way.consistent());
}

TEST_CASE("another namespace is visited for each reading, and may go away") {
    const auto own = current_netns_inode().value();
    NamedNetns named;
    const auto inode = named.inode();
    std::set<std::uint32_t> counted;  // the namespaces that change counters were asked for
    const ChangeCounters counters{.now = [&counted](std::uint32_t netns) {
        counted.insert(netns);
        return hptrace_changes{};
    }};
    NetnsVisitor visitor(inode, "/", counters);
    CHECK(visitor.read().state->local_addresses.empty());
    named.run_inside("ip link set lo up && ip address add 10.96.0.10 dev lo");
    const auto first = visitor.read().state;
    CHECK(first->netns == inode);
    CHECK(first->find_local(parse_address("10.96.0.10").value()) != nullptr);
    CHECK(visitor.read().state == first);  // nothing is different
    named.run_inside("ip address del 10.96.0.10/32 dev lo");
    CHECK(visitor.read().state->find_local(parse_address("10.96.0.10").value()) == nullptr);
    CHECK(current_netns_inode() == own);

    named.remove();
    const auto gone = visitor.read();
    CHECK(gone.state->netns == inode);
    REQUIRE(gone.state->sources.size() == 1);
    CHECK(gone.state->sources.at(std::string(netns_source)).state == SourceState::unreadable);
    CHECK_FALSE(gone.watched);
    CHECK(counted == std::set{inode});
    CHECK(current_netns_inode() == own);
}

TEST_CASE("a node that is a process has its own CNI cache") {
    CHECK(node_root_of({}, "/").path() == "/");
    CHECK(node_root_of({}, "/host").path() == "/host");
    CHECK(node_root_of(4194305, "/").path() == "/");  // no such process
    const bool here = std::filesystem::is_directory("/var/lib/cni/results");
    CHECK(node_root_of(::getpid(), "/").path().native().starts_with("/proc/") == here);
}
