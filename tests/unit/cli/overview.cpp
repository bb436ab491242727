// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/overview.hpp"

#include <catch2/catch_test_macros.hpp>

#include "judge/doubts.hpp"
#include "judge/node.hpp"

using namespace hptrace;
using namespace hptrace::test;

namespace {

Filter port(std::uint16_t number) {
    Filter filter;
    filter.ports = {{number, number}};
    return filter;
}

Beginning overview_of(const NodeState& state, const Filter& filter) {
    return overview(state, filter, doubts(state, filter));
}

std::vector<std::string> not_proven_of(const NodeState& state, const Filter& filter) {
    return not_proven(state, doubts(state, filter));
}

}  // namespace

TEST_CASE("the first line counts what the filter leaves") {
    auto state = ipvs_node(Backend::iptables_nft);
    auto udp = state.services[0];
    udp.protocol = Protocol::udp;
    state.services.push_back(udp);  // the same Service
    auto udp_rule = state.hostports[0];
    udp_rule.protocol = Protocol::udp;
    state.hostports.push_back(udp_rule);  // the same hostPort
    const auto all = overview_of(state, {});
    CHECK(all.services == 2);
    CHECK(all.hostports == 1);
    const auto mysql = overview_of(state, port(3306));
    CHECK(mysql.services == 1);
    CHECK(mysql.hostports == 1);
    CHECK(mysql.node == "node-2");
    CHECK(overview_of(state, port(80)).services == 0);
    CHECK(overview_of(state, port(80)).hostports == 0);
}

TEST_CASE("nothing to see is said, with why") {
    auto state = ipvs_node(Backend::iptables_nft);
    CHECK(nothing_to_see(state, port(3306)).empty());
    const auto elsewhere = nothing_to_see(state, port(6379));
    REQUIRE(elsewhere.size() == 2);
    CHECK(elsewhere[1].starts_with("no HostPort rule for 6379 here."));
    state.services.clear();
    state.netns = 4026531840;
    CHECK(nothing_to_see(state, port(3306)).at(0).starts_with("no Services in this network namespace"));
    state.netns = 0;
    CHECK(nothing_to_see(state, port(3306)).at(0).starts_with("no Services in the dump"));
    // Not if it may only be unread.
    state.sources["nf_tables"] = {SourceState::unreadable, "no"};
    CHECK(nothing_to_see(state, port(3306)).empty());
}

TEST_CASE("what was not understood is shown, not all of it") {
    auto state = ipvs_node(Backend::iptables_nft);
    state.unread_rules.assign(20, {Backend::iptables_nft, Family::ipv4, "KUBE-SERVICES", "-m bpf"});
    const auto lines = not_understood(state);
    CHECK(lines.size() == 6);
    CHECK(lines[0].find("KUBE-SERVICES") != std::string::npos);
    CHECK(lines[5].find("15 more") != std::string::npos);
    CHECK_FALSE(not_proven_of(state, port(3306)).empty());
    CHECK(not_proven_of(state, port(6379)).empty());
}

TEST_CASE("names and kinds decide nothing: what is found without them is proven") {
    auto state = ipvs_node(Backend::iptables_nft);
    CHECK(not_proven_of(state, {}).empty());
    for (const auto* source : {"cni", "ipset", "host-local", "kubelet"}) {
        state.sources[source] = {SourceState::unreadable, "Permission denied"};
    }
    state.sources["ip_vs"] = {SourceState::unused, ""};
    CHECK(not_proven_of(state, {}).empty());
    CHECK(unread_sources(state) == std::vector<std::string>{"cni (Permission denied; gives only whose a rule is)",
                                                            "host-local (Permission denied; gives only names)",
                                                            "ipset (Permission denied; gives only kinds of Services)",
                                                            "kubelet (Permission denied; gives only names)"});
    CHECK(nothing_to_see(state, port(6379)).size() == 2);
    state.sources["ip_vs"] = {SourceState::unreadable, ""};
    CHECK(not_proven_of(state, {}) == std::vector<std::string>{"ip_vs could not be read"});
    CHECK(overview_of(state, {}).doubts == not_proven_of(state, {}));
    CHECK(overview_of(state, {}).sources.size() == 5);
}

TEST_CASE("where there are no Services nothing is proven") {
    auto state = ipvs_node(Backend::iptables_nft);
    CHECK(not_proven_of(state, {}).empty());
    state.sources["nf_tables"] = {SourceState::unreadable, ""};
    CHECK_FALSE(not_proven_of(state, {}).empty());
    state.sources.clear();
    state.services.clear();
    CHECK_FALSE(not_proven_of(state, {}).empty());
    CHECK(overview_of(state, {}).doubts.empty());
}

TEST_CASE("a namespace that could not be entered is not read, and that decides") {
    NodeState state;
    state.sources.emplace(netns_source, SourceStatus{SourceState::unreadable, "gone"});
    CHECK_FALSE(not_proven_of(state, {}).empty());
    CHECK(unread_sources(state) == std::vector<std::string>{"network namespace (gone)"});
    CHECK(nothing_to_see(state, {}).empty());
}

TEST_CASE("what is unread is counted by what it is good for") {
    auto state = ipvs_node(Backend::iptables_nft);
    for (const auto& row : source_rows) {
        INFO(row.name);
        state.sources = {{std::string(row.name), {SourceState::unreadable, "no"}}};
        CHECK(count_unread(state) == (decides(row.role) ? UnreadCount{1, 0} : UnreadCount{0, 1}));
        state.sources = {{std::string(row.name), {SourceState::used, "no", 5}}};  // as it was before
        CHECK(count_unread(state) == (decides(row.role) ? UnreadCount{1, 0} : UnreadCount{0, 1}));
        state.sources = {{std::string(row.name), {SourceState::used, ""}}};
        CHECK(count_unread(state) == UnreadCount{});
    }
}
