// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch_test_macros.hpp>

#include "node.hpp"

using namespace hptrace;
using namespace hptrace::test;

namespace {

std::vector<Conflict> conflicts_of(NodeState state, const Filter& filter = {}) {
    state.index();
    return find_conflicts(state, filter).conflicts;
}

Conflict only_conflict(NodeState state, const Filter& filter = {}) {
    const auto found = conflicts_of(std::move(state), filter);
    REQUIRE(found.size() == 1);
    return found.front();
}

// The Service that is asked for, and the HostPort on its port.
NodeState node_with(NodeState state, ServiceKind kind, Backend backend) {
    const bool is_node_port = kind == ServiceKind::node_port;
    state.services = {is_node_port ? state.services[1] : state.services[0]};
    state.services[0].kind = kind;
    state.hostports = {hostport(backend, state.services[0].port)};
    return state;
}

}  // namespace

// Rows A (same xtables table), A0 (jump first), B (other xtables back end) and C (native nft) of who wins.
TEST_CASE("ipvs mode: who wins is read from the rules") {
    const auto legacy = Backend::iptables_legacy;
    const auto nft = Backend::iptables_nft;
    struct Case {
        const char* what;
        ServiceKind kind;
        Backend backend;
        bool jump_first;
        bool accept;
        Winner winner;
    };
    const auto hostport_wins = Winner::hostport;
    for (const auto& test : std::vector<Case>{
             {"A ClusterIP", ServiceKind::cluster_ip, legacy, false, true, Winner::service},
             {"A external", ServiceKind::external_ip, legacy, false, true, Winner::service},
             {"A LoadBalancer", ServiceKind::load_balancer, legacy, false, true, Winner::service},
             {"A NodePort", ServiceKind::node_port, legacy, false, true, hostport_wins},
             {"A0 ClusterIP", ServiceKind::cluster_ip, legacy, true, true, hostport_wins},
             {"A0 NodePort", ServiceKind::node_port, legacy, true, true, hostport_wins},
             {"B ClusterIP", ServiceKind::cluster_ip, nft, false, true, hostport_wins},
             {"B external", ServiceKind::external_ip, nft, false, true, hostport_wins},
             {"B NodePort", ServiceKind::node_port, nft, false, true, hostport_wins},
             {"C ClusterIP", ServiceKind::cluster_ip, Backend::nftables, false, true, hostport_wins},
             {"C NodePort", ServiceKind::node_port, Backend::nftables, false, true, hostport_wins},
             {"kube-router ClusterIP", ServiceKind::cluster_ip, legacy, false, false, hostport_wins},
             {"kube-router NodePort", ServiceKind::node_port, legacy, false, false, hostport_wins},
         }) {
        INFO(test.what);
        auto state = node_with(ipvs_node(test.backend), test.kind, test.backend);
        state.nat_tables[0] = nat(legacy, test.accept, test.jump_first);
        const auto conflict = only_conflict(std::move(state));
        CHECK(to_string(conflict.winner) == to_string(test.winner));
        CHECK(conflict.reason_code.has_value() == (test.winner != Winner::service));
        CHECK(conflict.depends_on.empty());
    }
}

TEST_CASE("iptables mode: hook order decides between tables, and is not visible") {
    const auto legacy = Backend::iptables_legacy;
    const auto with_node_port = [](Backend backend) {
        return node_with(iptables_node(backend), ServiceKind::node_port, backend);
    };
    CHECK(only_conflict(with_node_port(legacy)).winner == Winner::service);
    for (const auto backend : {Backend::iptables_nft, Backend::nftables}) {
        const auto conflict = only_conflict(with_node_port(backend));
        CHECK(conflict.winner == Winner::depends);
        CHECK(conflict.reason_code == ReasonCode::hook_order);
        CHECK(conflict.depends_on.find("registered last") != std::string::npos);
    }
    auto jump_first = with_node_port(legacy);
    jump_first.nat_tables = {nat(legacy, false, true)};
    CHECK(only_conflict(jump_first).winner == Winner::hostport);
    auto empty = with_node_port(legacy);
    empty.services[0].endpoints.clear();
    CHECK(only_conflict(empty).reason_code == ReasonCode::no_endpoints);
    CHECK(only_conflict(empty).winner == Winner::hostport);
    auto etp_local = with_node_port(legacy);
    etp_local.services[0].external_local = true;
    CHECK(only_conflict(etp_local).winner == Winner::hostport);
    CHECK(only_conflict(etp_local).reason_code == ReasonCode::etp_local);
    etp_local.services[0].handles_outside = true;
    CHECK(only_conflict(etp_local).winner == Winner::service);
    auto ranges = with_node_port(legacy);
    ranges.services[0].kind = ServiceKind::load_balancer;
    ranges.services[0].ip = ranges.local_addresses.front().prefix.address;
    CHECK(only_conflict(ranges).winner == Winner::service);
    ranges.services[0].allowed_sources = {parse_prefix("203.0.113.0/24").value()};
    CHECK(only_conflict(ranges).winner == Winner::hostport);
    CHECK(only_conflict(ranges).reason_code == ReasonCode::lb_source_ranges);
}

TEST_CASE("iptables mode: a ClusterIP is not local, only a rule without local check can take it") {
    CHECK(conflicts_of(iptables_node(Backend::iptables_legacy)).empty());
    auto no_check = iptables_node(Backend::nftables);
    no_check.hostports[0].local_only = false;
    const auto conflict = only_conflict(no_check);
    CHECK(conflict.winner == Winner::depends);
    CHECK(conflict.reason_code == ReasonCode::no_local_check);
}

// Row nftables: L (the last registered hook), whatever the HostPort's back end; and what falls through to it.
TEST_CASE("nftables mode: hook order decides, but for what kube-proxy's rules let pass") {
    const auto conflicts = [](ServiceKind kind, Backend backend, auto change) {
        auto state = node_with(nftables_node(backend), kind, backend);
        if (kind != ServiceKind::node_port) {
            state.local_addresses.push_back(local("10.96.0.10/32", "eth0"));
        }
        change(state.services[0]);
        return only_conflict(state);
    };
    const auto as_it_is = [](Service&) {};
    for (const auto backend : {Backend::iptables_legacy, Backend::iptables_nft, Backend::nftables}) {
        INFO(to_string(backend));
        for (const auto kind : {ServiceKind::node_port, ServiceKind::external_ip, ServiceKind::load_balancer}) {
            INFO(to_string(kind));
            const auto conflict = conflicts(kind, backend, as_it_is);
            CHECK(conflict.winner == Winner::depends);
            CHECK(conflict.reason_code == ReasonCode::hook_order);
            CHECK(conflict.depends_on.find("registered last") != std::string::npos);
        }
        const auto empty =
            conflicts(ServiceKind::node_port, backend, [](Service& service) { service.endpoints.clear(); });
        CHECK(empty.winner == Winner::hostport);
        CHECK(empty.reason_code == ReasonCode::no_endpoints);

        const auto elsewhere =
            conflicts(ServiceKind::node_port, backend, [](Service& service) { service.external_local = true; });
        CHECK(elsewhere.winner == Winner::hostport);
        CHECK(elsewhere.reason_code == ReasonCode::etp_local);
        CHECK(elsewhere.depends_on.empty());

        const auto here = conflicts(ServiceKind::node_port, backend, [](Service& service) {
            service.external_local = true;
            service.handles_outside = true;
        });
        CHECK(here.winner == Winner::depends);
        CHECK(here.reason_code == ReasonCode::hook_order);
    }

    // A ClusterIP is not local: only a rule without local check can take it.
    CHECK(
        conflicts_of(node_with(nftables_node(Backend::nftables), ServiceKind::cluster_ip, Backend::nftables)).empty());
    auto no_check = node_with(nftables_node(Backend::nftables), ServiceKind::cluster_ip, Backend::nftables);
    no_check.hostports[0].local_only = false;
    CHECK(only_conflict(no_check).winner == Winner::depends);
    CHECK(only_conflict(no_check).reason_code == ReasonCode::no_local_check);
}

TEST_CASE("a NodePort is one conflict, however many addresses the node has") {
    auto state = node_with(ipvs_node(Backend::iptables_nft), ServiceKind::node_port, Backend::iptables_nft);
    state.services.push_back(state.services[0]);
    state.services[1].ip = ip("192.168.0.3");
    state.local_addresses.push_back(local("192.168.0.3/32", "eth0"));
    CHECK(conflicts_of(state).size() == 1);
}

TEST_CASE("hostIP and conditions count") {
    auto state = node_with(ipvs_node(Backend::iptables_nft), ServiceKind::cluster_ip, Backend::iptables_nft);
    SECTION("hostIP of the node leaves Service addresses alone") {
        state.hostports[0].host_ip = *parse_prefix("192.168.0.2/32");
        CHECK(conflicts_of(state).empty());
    }
    SECTION("so does a condition ! -d") {
        state.hostports[0].not_destinations = {*parse_prefix("10.96.0.0/12")};
        CHECK(conflicts_of(state).empty());
    }
    SECTION("conditions that are not evaluated decide") {
        state.hostports[0].conditional = true;
        const auto conflict = only_conflict(state);
        CHECK(conflict.winner == Winner::depends);
        CHECK_FALSE(conflict.depends_on.empty());
    }
    SECTION("hostIP on a NodePort") {
        auto node_ports =
            node_with(iptables_node(Backend::iptables_nft), ServiceKind::node_port, Backend::iptables_nft);
        node_ports.hostports[0].host_ip = *parse_prefix("192.168.0.2/32");
        CHECK(conflicts_of(node_ports).size() == 1);
        node_ports.hostports[0].host_ip = *parse_prefix("192.168.0.77/32");
        CHECK(conflicts_of(node_ports).empty());
    }
}

TEST_CASE("the oldest rule shadows the next of its back end") {
    auto state = node_with(ipvs_node(Backend::iptables_nft), ServiceKind::cluster_ip, Backend::iptables_nft);
    state.hostports.push_back(state.hostports[0]);
    state.hostports[0].chain = "CNI-DN-leaked";
    state.hostports[0].container_id = std::string(64, '4');
    state.hostports[1].order = 1;
    const auto conflict = only_conflict(state);
    CHECK(conflict.rule.chain == "CNI-DN-leaked");
    CHECK(conflict.leftover == LeftOver::perhaps);

    state.hostports[0].host_ip = *parse_prefix("10.96.0.10/32");  // leaves other addresses to the next
    CHECK(conflicts_of(state).size() == 2);
}

TEST_CASE("a HostPort that leads to an endpoint is harmless") {
    auto state = node_with(ipvs_node(Backend::iptables_nft), ServiceKind::cluster_ip, Backend::iptables_nft);
    CHECK_FALSE(only_conflict(state).bypass);
    state.services[0].endpoints = {end("10.224.0.222:3306")};
    CHECK(only_conflict(state).bypass);
}

TEST_CASE("conflicts and leaked rules obey the filter") {
    auto state = ipvs_node(Backend::iptables_nft);
    state.hostports.push_back(hostport(Backend::iptables_nft, 30306));
    state.hostports[1].chain = "CNI-DN-c";
    const auto count = [&](const Filter& filter) { return conflicts_of(state, filter).size(); };
    CHECK(count({}) == 2);
    Filter filter;
    filter.ports = {{3306, 3306}};
    CHECK(count(filter) == 1);
    filter.protocols = {Protocol::udp};
    CHECK(count(filter) == 0);
    filter = {};
    filter.family = Family::ipv6;
    CHECK(count(filter) == 0);
    filter = {};
    filter.dest = *parse_prefix("10.96.0.0/12");
    CHECK(count(filter) == 1);
    filter.dest = *parse_prefix("10.224.0.222");  // as a rewritten destination
    CHECK(count(filter) == 2);

    state.sandboxes.erase(state.sandboxes.begin());
    state.index();
    CHECK(find_leaked(state, {}).size() == 2);
    CHECK(find_leaked(state, {})[0].leftover == LeftOver::perhaps);
    filter = {};
    filter.ports = {{3000, 4000}};
    CHECK(find_leaked(state, filter).size() == 1);
}

TEST_CASE("ports, protocols and families that differ are no conflict") {
    auto state = node_with(ipvs_node(Backend::iptables_nft), ServiceKind::cluster_ip, Backend::iptables_nft);
    const auto rule = state.hostports[0];
    state.hostports[0].port = {3307, 3307};
    CHECK(conflicts_of(state).empty());
    state.hostports = {rule};
    state.hostports[0].protocol = Protocol::udp;
    CHECK(conflicts_of(state).empty());
    state.hostports = {rule};
    state.hostports[0].port = {3000, 4000};
    CHECK(conflicts_of(state).size() == 1);
}

TEST_CASE("a conflict keeps its name") {
    const auto state = ipvs_node(Backend::iptables_nft);
    // The name is in people's journals and dashboards: a change of this value breaks them.
    CHECK(conflict_id(state.services[0], state.hostports[0]) == "c-2e64b543");
    auto other = state.hostports[0];
    other.backend = Backend::iptables_legacy;
    CHECK(conflict_id(state.services[0], other) != conflict_id(state.services[0], state.hostports[0]));
    // A finding and a prediction speak of the same conflict, also of a NodePort.
    auto node_ports = ipvs_node(Backend::iptables_nft);
    node_ports.hostports = {hostport(Backend::iptables_nft, 30306)};
    const auto finding = judged(connection("192.168.0.2:30306", "10.224.0.222:3306"), node_ports);
    CHECK(finding.conflict_id == only_conflict(node_ports).conflict_id);
}

TEST_CASE("many Services are searched once each") {
    auto state = ipvs_node(Backend::iptables_nft);
    const auto service = state.services[0];
    for (std::uint16_t i = 1; i <= 5000; ++i) {
        auto another = service;
        another.ip = make_address(Family::ipv4, std::array<std::uint8_t, 4>{10, 97, static_cast<std::uint8_t>(i >> 8U),
                                                                            static_cast<std::uint8_t>(i)});
        another.port = 80;
        state.services.push_back(another);
        auto rule = hostport(Backend::iptables_nft, static_cast<std::uint16_t>(10000 + i));
        state.hostports.push_back(rule);
    }
    CHECK(conflicts_of(state).size() == 1);
}
