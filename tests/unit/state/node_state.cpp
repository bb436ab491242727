// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/node_state.hpp"

#include <catch2/catch_test_macros.hpp>
#include <string_view>

using namespace hptrace;

namespace {

Endpoint endpoint(std::string_view text) {
    return parse_endpoint(text).value();
}
Address address(std::string_view text) {
    return parse_address(text).value();
}
Prefix prefix(std::string_view text) {
    return parse_prefix(text).value();
}

Service service(std::string_view text, ServiceKind kind) {
    Service made;
    made.kind = kind;
    made.family = endpoint(text).ip.family;
    made.ip = endpoint(text).ip;
    made.port = endpoint(text).port;
    return made;
}

Service node_port(Family family, std::uint16_t port, bool on_loopback) {
    Service made;
    made.kind = ServiceKind::node_port;
    made.family = family;
    made.port = port;
    made.on_loopback = on_loopback;
    return made;
}

NodeState node() {
    NodeState state;
    state.local_addresses = {{prefix("127.0.0.0/8"), "lo"},      {prefix("::1/128"), "lo"},
                             {prefix("192.168.0.2/32"), "eth0"}, {prefix("10.96.0.10/32"), "kube-ipvs0"},
                             {prefix("198.51.100.0/24"), "lo"},  {prefix("198.51.100.128/25"), "eth1"},
                             {prefix("fd00::2/128"), "eth0"}};
    state.services = {service("10.96.0.10:3306", ServiceKind::cluster_ip),
                      service("192.168.0.2:30001", ServiceKind::load_balancer), node_port(Family::ipv4, 30001, true),
                      node_port(Family::ipv4, 30002, false), node_port(Family::ipv6, 30003, false)};
    state.sandboxes = {{"aaa", "cbr0", "default", "mysql-a-0", "", {address("10.224.0.5")}},
                       {"bbb", "cbr0", "default", "mysql-b-0", "", {address("10.224.0.5"), address("fd00:10::5")}}};
    state.index();
    return state;
}

HostPortRule host_port() {
    HostPortRule rule;
    rule.port = {3306, 3306};
    rule.target = endpoint("10.224.0.222:3306");
    return rule;
}

}  // namespace

TEST_CASE("a Service is found by its exact address first", "[node_state]") {
    const auto state = node();
    const auto kind = [&](std::string_view text, Protocol protocol = Protocol::tcp) {
        const auto* const found = state.find_service(endpoint(text), protocol);
        return found == nullptr ? std::nullopt : std::optional(found->kind);
    };
    CHECK(kind("10.96.0.10:3306") == ServiceKind::cluster_ip);
    CHECK(kind("10.96.0.10:3306", Protocol::udp) == std::nullopt);
    CHECK(kind("10.96.0.10:3307") == std::nullopt);
    CHECK(kind("192.168.0.2:30001") == ServiceKind::load_balancer);
    CHECK(kind("10.96.0.10:30001") == ServiceKind::node_port);  // any local address, Service addresses too
}

TEST_CASE("node ports are served on local addresses only, and on loopback only if the rules say so", "[node_state]") {
    const auto state = node();
    const auto found = [&](std::string_view text) {
        return state.find_service(endpoint(text), Protocol::tcp) != nullptr;
    };
    CHECK(found("127.0.0.1:30001"));
    CHECK(found("192.168.0.2:30002"));
    CHECK_FALSE(found("127.0.0.1:30002"));
    CHECK_FALSE(found("192.168.0.3:30002"));  // another node's
    CHECK(found("[fd00::2]:30003"));
    CHECK_FALSE(found("[::1]:30003"));
    CHECK_FALSE(found("192.168.0.2:30003"));  // the other family's
    CHECK_FALSE(found("0.0.0.0:30002"));
}

TEST_CASE("local addresses are found alone and in prefixes", "[node_state]") {
    const auto state = node();
    const auto device = [&](std::string_view text) {
        const auto* const found = state.find_local(address(text));
        return found == nullptr ? std::string("none") : found->device;
    };
    CHECK(device("10.96.0.10") == "kube-ipvs0");
    CHECK(device("127.1.2.3") == "lo");
    CHECK(device("198.51.100.1") == "lo");
    CHECK(device("198.51.100.200") == "eth1");  // the longer prefix
    CHECK(device("10.96.0.11") == "none");
    CHECK(device("fd00::2") == "eth0");
    CHECK(device("fd00::3") == "none");
}

TEST_CASE("sandboxes are found by id, and by address the one written last", "[node_state]") {
    const auto state = node();
    REQUIRE(state.find_sandbox("aaa"));
    CHECK(state.find_sandbox("aaa")->pod_name == "mysql-a-0");
    CHECK_FALSE(state.find_sandbox("aa"));
    REQUIRE(state.find_sandbox(address("10.224.0.5")));
    CHECK(state.find_sandbox(address("10.224.0.5"))->pod_name == "mysql-b-0");
    CHECK(state.find_sandbox(address("fd00:10::5")));
    CHECK_FALSE(state.find_sandbox(address("10.224.0.6")));
}

TEST_CASE("one unreadable source is enough to say so", "[node_state]") {
    NodeState state;
    state.sources = {{"ip_vs", {SourceState::unused, {}}}, {"nf_tables", {SourceState::used, {}}}};
    CHECK(state.all_sources_read());
    state.sources["cni"] = {SourceState::unreadable, "why"};
    CHECK_FALSE(state.all_sources_read());
}

TEST_CASE("a HostPort rule matches by address, port and protocol", "[node_state]") {
    const auto state = node();
    const auto rule = host_port();
    CHECK(hostport_matches(state, rule, endpoint("10.96.0.10:3306"), Protocol::tcp, false));
    CHECK(hostport_matches(state, rule, endpoint("192.168.0.2:3306"), Protocol::tcp, true));
    CHECK_FALSE(hostport_matches(state, rule, endpoint("10.96.0.10:3307"), Protocol::tcp, false));
    CHECK_FALSE(hostport_matches(state, rule, endpoint("10.96.0.10:3306"), Protocol::udp, false));
    CHECK_FALSE(hostport_matches(state, rule, endpoint("[fd00::2]:3306"), Protocol::tcp, false));
    CHECK_FALSE(hostport_matches(state, rule, endpoint("10.96.0.11:3306"), Protocol::tcp, false));  // not local
}

TEST_CASE("a HostPort rule's own address conditions decide", "[node_state]") {
    const auto state = node();
    auto on_one_address = host_port();
    on_one_address.host_ip = prefix("192.168.0.2/32");
    CHECK(hostport_matches(state, on_one_address, endpoint("192.168.0.2:3306"), Protocol::tcp, false));
    CHECK_FALSE(hostport_matches(state, on_one_address, endpoint("10.96.0.10:3306"), Protocol::tcp, false));
    auto excepted = host_port();
    excepted.not_destinations = {prefix("10.96.0.0/12")};
    CHECK(hostport_matches(state, excepted, endpoint("192.168.0.2:3306"), Protocol::tcp, false));
    CHECK_FALSE(hostport_matches(state, excepted, endpoint("10.96.0.10:3306"), Protocol::tcp, false));
}

TEST_CASE("rules without a local check take forwarded traffic to anywhere", "[node_state]") {
    // portmap's nftables backend before 1.9: prerouting asks for nothing, output asks for a local address
    const auto state = node();
    auto rule = host_port();
    rule.local_only = false;
    CHECK(hostport_matches(state, rule, endpoint("8.8.8.8:3306"), Protocol::tcp, false));
    CHECK_FALSE(hostport_matches(state, rule, endpoint("8.8.8.8:3306"), Protocol::tcp, true));
}

TEST_CASE("a rule takes only the traffic of the hooks that lead to it", "[node_state]") {
    const auto state = node();
    auto rule = host_port();
    rule.in_prerouting = false;
    CHECK_FALSE(hostport_matches(state, rule, endpoint("192.168.0.2:3306"), Protocol::tcp, false));
    CHECK(hostport_matches(state, rule, endpoint("192.168.0.2:3306"), Protocol::tcp, true));
    rule.in_prerouting = true;
    rule.in_output = false;
    CHECK(hostport_matches(state, rule, endpoint("192.168.0.2:3306"), Protocol::tcp, false));
    CHECK_FALSE(hostport_matches(state, rule, endpoint("192.168.0.2:3306"), Protocol::tcp, true));
}

TEST_CASE("names of the contract", "[node_state]") {
    CHECK(to_string(Backend::iptables_nft) == "iptables-nft");
    CHECK(to_string(ServiceKind::cluster_ip) == "ClusterIP");
    CHECK(to_string(Producer::portmap) == "portmap");
    CHECK(to_string(ProxyMode::ipvs) == "kube-proxy ipvs");
}
