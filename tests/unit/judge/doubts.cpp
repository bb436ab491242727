// SPDX-License-Identifier: GPL-2.0-or-later
#include "judge/doubts.hpp"

#include <catch2/catch_test_macros.hpp>

#include "judge/conflict_watch.hpp"
#include "node.hpp"

using namespace hptrace;
using namespace hptrace::test;

namespace {

UnreadRule unread(const char* chain, std::vector<PortRange> ports = {}, std::optional<Protocol> protocol = {},
                  Backend backend = Backend::iptables_nft) {
    return {backend, Family::ipv4, chain, "-m brandnew", protocol, std::move(ports)};
}

Filter port(std::uint16_t number) {
    Filter filter;
    filter.ports = {{number, number}};
    return filter;
}

NodeState with(NodeState state, UnreadRule rule) {
    state.unread_rules = {std::move(rule)};
    return state;
}

NodeState without(NodeState state, std::string_view source) {
    state.sources[std::string(source)] = {SourceState::unreadable, "no"};
    return state;
}

// Does the one conflict of `before` end when `after` is read?
bool ends(NodeState before, NodeState after) {
    before.index();
    after.index();
    ConflictWatch watch;
    const auto appeared = watch.update(find_conflicts(before, port(3306)), before, 1, {}).appeared;
    REQUIRE(appeared.size() == 1);
    return watch.update(find_conflicts(after, port(3306)), after, 2, {}).ended.size() == 1;
}

// The pod with the hostPort is gone.
NodeState without_hostport(NodeState state) {
    state.hostports.clear();
    return state;
}

}  // namespace

TEST_CASE("every source has a row that says what it decides; one nobody knows may decide anything") {
    for (const auto& row : source_rows) {
        INFO(row.name);
        const auto state = without(ipvs_node(Backend::iptables_nft), row.name);
        CHECK(doubts(state, {}).empty() != decides(row.role));
    }
    CHECK_FALSE(doubts(without(ipvs_node(Backend::iptables_nft), "a new one"), {}).empty());
}

TEST_CASE("a source of one family leaves nothing open in the other") {
    const auto state = without(ipvs_node(Backend::iptables_nft), "ip6tables-legacy");
    Filter filter;
    CHECK_FALSE(doubts(state, filter).empty());
    filter.family = Family::ipv4;
    CHECK(doubts(state, filter).empty());
    filter.family = Family::ipv6;
    CHECK_FALSE(doubts(state, filter).empty());
}

TEST_CASE("a conflict ends whatever else could not be read") {
    const auto ipvs = ipvs_node(Backend::iptables_nft);
    const auto gone = without_hostport(ipvs);
    CHECK(ends(ipvs, gone));
    for (const auto* source : {"kubelet", "host-local", "cni", "ipset", "iptables-legacy", "ip6tables-legacy"}) {
        INFO(source);
        CHECK(ends(ipvs, without(gone, source)));
    }
    for (const std::string_view source :
         {std::string_view("nf_tables"), std::string_view("ip_vs"), std::string_view("routes"), netns_source}) {
        INFO(source);
        CHECK_FALSE(ends(ipvs, without(gone, source)));
    }
    CHECK(ends(ipvs, with(gone, unread("DOCKER", {{9000, 9010}}, Protocol::tcp))));
    CHECK(ends(ipvs, with(gone, unread("DOCKER"))));  // in other chains than the conflict's
    CHECK(ends(ipvs, with(gone, unread("CNI-DN-another"))));
    CHECK(ends(ipvs, with(gone, unread("KUBE-SERVICES"))));  // ip_vs has its Services
    CHECK(ends(ipvs, with(gone, unread("CNI-HOSTPORT-DNAT", {{80, 80}}))));
    CHECK(ends(ipvs, with(gone, unread("CNI-HOSTPORT-DNAT", {{3306, 3306}}, Protocol::udp))));
    CHECK(ends(ipvs, with(gone, unread("CNI-HOSTPORT-DNAT", {}, {}, Backend::iptables_legacy))));
    CHECK(ends(ipvs, with(gone, unread("PREROUTING", {{80, 80}, {443, 443}}))));
    CHECK_FALSE(ends(ipvs, with(gone, unread("CNI-HOSTPORT-DNAT"))));
    CHECK_FALSE(ends(ipvs, with(gone, unread("CNI-HOSTPORT-DNAT", {{80, 80}, {3000, 4000}}, Protocol::tcp))));
    CHECK_FALSE(ends(ipvs, with(gone, unread(mysql_b_chain))));
    CHECK_FALSE(ends(ipvs, with(gone, unread("PREROUTING"))));
}

TEST_CASE("the Service of a conflict may be the one that was not understood") {
    auto iptables = iptables_node(Backend::iptables_nft);
    iptables.local_addresses.push_back(local("10.96.0.10/32", "lo"));
    auto gone = iptables;
    gone.services.clear();
    CHECK(ends(iptables, gone));
    CHECK_FALSE(ends(iptables, without(gone, "iptables-legacy")));
    CHECK(ends(iptables, without(gone, "ip_vs")));
    constexpr auto legacy = Backend::iptables_legacy;
    CHECK_FALSE(ends(iptables, with(gone, unread("KUBE-SERVICES", {{3306, 3306}}, Protocol::tcp, legacy))));
    CHECK(ends(iptables, with(gone, unread("KUBE-SERVICES", {{80, 80}}, Protocol::tcp, legacy))));
    CHECK(ends(iptables, with(gone, unread("KUBE-SVC-OTHER", {}, {}, legacy))));

    // Its rule is there, and seems to lead to an endpoint: is that all that was not understood?
    auto harmless = iptables;
    harmless.services[0].endpoints = {end("10.224.0.222:3306")};
    CHECK(ends(iptables, harmless));
    CHECK_FALSE(ends(iptables, with(harmless, unread("KUBE-SVC-OTHER", {}, {}, legacy))));
}

TEST_CASE("a rule that was not understood leaves open what it could be one half of") {
    const auto ipvs = ipvs_node(Backend::iptables_nft);  // Services on 3306 and 30306, a hostPort 3306
    const auto open = [&](const UnreadRule& rule, const Filter& filter = {}) {
        return !doubts(with(ipvs, rule), filter).empty();
    };
    SECTION("a hostPort's, where there is a Service") {
        CHECK(open(unread("DOCKER")));
        CHECK(open(unread("DOCKER", {{30000, 31000}}, Protocol::tcp)));
        CHECK_FALSE(open(unread("DOCKER", {{9000, 9010}})));
        CHECK_FALSE(open(unread("DOCKER", {{3306, 3306}}, Protocol::udp)));
        CHECK_FALSE(open(unread("DOCKER", {{3306, 3306}}), port(30306)));
        CHECK(open(unread("DOCKER", {{3000, 4000}}), port(3306)));
        CHECK(open(unread("PREROUTING", {{80, 80}, {3306, 3306}})));
        auto rule = unread("DOCKER");
        rule.family = Family::ipv6;
        CHECK_FALSE(open(rule));
        CHECK_FALSE(open(unread("DOCKER"), port(6379)));
    }
    SECTION("a Service's, where there is a hostPort") {
        CHECK(open(unread("KUBE-SERVICES")));
        CHECK(open(unread("service-ips", {{3306, 3306}}, Protocol::tcp)));
        CHECK_FALSE(open(unread("service-ips", {{80, 80}}, Protocol::tcp)));
        CHECK_FALSE(open(unread("KUBE-SERVICES"), port(30306)));
        auto range = ipvs;
        range.hostports[0].port = {3000, 4000};
        CHECK_FALSE(doubts(with(range, unread("service-ips", {{3999, 3999}})), {}).empty());
        CHECK(doubts(with(range, unread("service-ips", {{4001, 4001}})), {}).empty());
    }
    SECTION("both halves were not understood") {
        auto state = with(ipvs, unread("DOCKER", {{80, 80}}));
        CHECK(doubts(state, {}).empty());
        state.unread_rules.push_back(unread("KUBE-SERVICES", {{80, 80}}));
        CHECK(doubts(state, {}).size() == 1);
        state.unread_rules.back() = unread("KUBE-SERVICES", {{81, 81}});
        CHECK(doubts(state, {}).empty());
    }
    SECTION("neither, where there are no hostPorts or no Services") {
        CHECK(doubts(with(without_hostport(ipvs), unread("KUBE-SERVICES")), {}).empty());
        auto no_services = ipvs;
        no_services.services.clear();
        CHECK(doubts(with(no_services, unread("DOCKER")), {}).empty());
    }
}
