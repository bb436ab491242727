// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/ipvs.hpp"

#include <arpa/inet.h>
#include <linux/genetlink.h>
#include <linux/ip_vs.h>

#include <algorithm>
#include <array>
#include <catch2/catch_test_macros.hpp>

#include "messages.hpp"

using namespace hptrace;

namespace {

constexpr std::uint16_t genl_family = 0x1c;

Endpoint endpoint(std::string_view text) {
    return parse_endpoint(text).value();
}

struct RawService {
    std::uint16_t family = AF_INET;
    std::uint32_t flags = 0;
    std::uint32_t fwmark = 0;
};

// As ip_vs_genl_fill_service() writes it.
MessageBuilder service_message(const RawService& raw) {
    MessageBuilder message(genl_family, NLM_F_MULTI);
    message.extra(genlmsghdr{.cmd = IPVS_CMD_NEW_SERVICE, .version = 1, .reserved = 0});
    message.nest(IPVS_CMD_ATTR_SERVICE, [&](MessageBuilder& service) {
        service.attribute(IPVS_SVC_ATTR_AF, raw.family);
        if (raw.fwmark != 0) {
            service.attribute(IPVS_SVC_ATTR_FWMARK, raw.fwmark);
        } else {
            auto ip = parse_address(raw.family == AF_INET ? "10.96.0.10" : "fd00:96::a")->bytes;
            service.attribute(IPVS_SVC_ATTR_PROTOCOL, std::uint16_t{IPPROTO_TCP});
            service.attribute(IPVS_SVC_ATTR_ADDR, ip);
            service.attribute(IPVS_SVC_ATTR_PORT, htons(3306));
        }
        service.text(IPVS_SVC_ATTR_SCHED_NAME, "rr");
        service.attribute(IPVS_SVC_ATTR_FLAGS, std::to_array<std::uint32_t>({raw.flags, ~0U}));
    });
    return message;
}

MessageBuilder destination_message(bool with_family) {
    MessageBuilder message(genl_family, NLM_F_MULTI);
    message.extra(genlmsghdr{.cmd = IPVS_CMD_NEW_DEST, .version = 1, .reserved = 0});
    message.nest(IPVS_CMD_ATTR_DEST, [&](MessageBuilder& destination) {
        destination.attribute(IPVS_DEST_ATTR_ADDR, parse_address("10.224.0.224")->bytes);
        destination.attribute(IPVS_DEST_ATTR_PORT, htons(13306));
        destination.attribute(IPVS_DEST_ATTR_WEIGHT, std::uint32_t{0});
        if (with_family) {
            destination.attribute(IPVS_DEST_ATTR_ADDR_FAMILY, std::uint16_t{AF_INET});
        }
    });
    return message;
}

VirtualServer virtual_server(std::string_view address, std::uint8_t protocol = IPPROTO_TCP) {
    VirtualServer server;
    server.address = endpoint(address);
    server.family = server.address.ip.family;
    server.protocol = protocol;
    server.real_servers = {endpoint(server.family == Family::ipv4 ? "10.224.0.224:3306" : "[fd00:10::24]:3306")};
    return server;
}

SetMember member(std::string_view address, std::uint8_t protocol = IPPROTO_TCP) {
    return {.ip = endpoint(address).ip, .port = endpoint(address).port, .protocol = protocol};
}

SetMember port_member(std::uint16_t port) {
    return {.ip = std::nullopt, .port = port, .protocol = std::nullopt};
}

const Service* find(const NodeState& state, std::string_view address) {
    const auto found = std::ranges::find_if(state.services, [&](const Service& service) {
        return service.ip == endpoint(address).ip && service.port == endpoint(address).port;
    });
    return found == state.services.end() ? nullptr : &*found;
}

}  // namespace

TEST_CASE("virtual servers are read as the kernel writes them", "[ipvs]") {
    auto message = service_message({.flags = IP_VS_SVC_F_PERSISTENT | IP_VS_SVC_F_HASHED});
    const auto server = parse_virtual_server(message.message());
    REQUIRE(server);
    CHECK(server->address == endpoint("10.96.0.10:3306"));
    CHECK(server->protocol == IPPROTO_TCP);
    CHECK(server->persistent);

    auto message6 = service_message({.family = AF_INET6, .flags = IP_VS_SVC_F_HASHED});
    const auto server6 = parse_virtual_server(message6.message());
    REQUIRE(server6);
    CHECK(server6->address == endpoint("[fd00:96::a]:3306"));
    CHECK_FALSE(server6->persistent);

    auto by_mark = service_message({.fwmark = 5});
    const auto marked = parse_virtual_server(by_mark.message());
    REQUIRE(marked);
    CHECK(marked->fwmark == 5);
}

TEST_CASE("real servers of weight 0 are endpoints too", "[ipvs]") {
    for (const bool with_family : {true, false}) {
        auto message = destination_message(with_family);
        CHECK(parse_real_server(message.message(), Family::ipv4).value() == endpoint("10.224.0.224:13306"));
    }
    // A real server of the other family, through a tunnel.
    auto mixed = destination_message(true);
    CHECK(parse_real_server(mixed.message(), Family::ipv6).value() == endpoint("10.224.0.224:13306"));
}

TEST_CASE("malformed ip_vs messages are errors", "[ipvs]") {
    for (std::size_t cut = 1; cut < 60; ++cut) {
        INFO(cut << " bytes missing");
        auto service = service_message({});
        CHECK_FALSE(parse_virtual_server(service.message(cut)));
    }
    for (std::size_t cut = 1; cut < 30; ++cut) {
        INFO(cut << " bytes missing");
        auto destination = destination_message(true);
        CHECK_FALSE(parse_real_server(destination.message(cut), Family::ipv4));
    }
    auto other_family = service_message({.family = AF_UNIX});
    CHECK_FALSE(parse_virtual_server(other_family.message()));
    MessageBuilder empty(genl_family);
    empty.extra(genlmsghdr{});
    CHECK_FALSE(parse_virtual_server(empty.message()));
    CHECK_FALSE(parse_real_server(empty.message(), Family::ipv4));
}

TEST_CASE("kube-proxy's ipsets tell the kind of a Service", "[ipvs]") {
    const std::vector<IpSet> sets{
        {"KUBE-CLUSTER-IP", "hash:ip,port", {member("10.96.0.10:3306")}},
        {"KUBE-6-CLUSTER-IP", "hash:ip,port", {member("[fd00:96::a]:3306")}},
        {"KUBE-LOAD-BALANCER", "hash:ip,port", {member("198.51.100.1:3306")}},
        {"KUBE-LOAD-BALANCER-LOCAL", "hash:ip,port", {member("198.51.100.2:3306")}},
        {"KUBE-EXTERNAL-IP", "hash:ip,port", {member("203.0.113.1:3306")}},
        {"KUBE-NODE-PORT-TCP", "bitmap:port", {port_member(30306)}},
        {"KUBE-NODE-PORT-LOCAL-UDP", "bitmap:port", {port_member(30053)}},
        {"KUBE-NODE-PORT-SCTP-HASH", "hash:ip,port", {member("192.0.2.5:30099", IPPROTO_SCTP)}},
    };
    NodeState state;
    add_ipvs_services(
        {virtual_server("10.96.0.10:3306"), virtual_server("[fd00:96::a]:3306"), virtual_server("198.51.100.1:3306"),
         virtual_server("198.51.100.2:3306"), virtual_server("203.0.113.1:3306"), virtual_server("192.0.2.5:30306"),
         virtual_server("192.0.2.5:30053", IPPROTO_UDP), virtual_server("192.0.2.5:30099", IPPROTO_SCTP)},
        sets, state);
    REQUIRE(state.services.size() == 8);
    CHECK(find(state, "10.96.0.10:3306")->kind == ServiceKind::cluster_ip);
    CHECK(find(state, "10.96.0.10:3306")->proxy == ServiceProxy::ipvs);
    CHECK(find(state, "10.96.0.10:3306")->endpoints == std::vector{endpoint("10.224.0.224:3306")});
    CHECK(find(state, "[fd00:96::a]:3306")->kind == ServiceKind::cluster_ip);
    CHECK(find(state, "[fd00:96::a]:3306")->family == Family::ipv6);
    CHECK(find(state, "198.51.100.1:3306")->kind == ServiceKind::load_balancer);
    CHECK_FALSE(find(state, "198.51.100.1:3306")->external_local);
    CHECK(find(state, "198.51.100.2:3306")->kind == ServiceKind::load_balancer);
    CHECK(find(state, "198.51.100.2:3306")->external_local);
    CHECK(find(state, "203.0.113.1:3306")->kind == ServiceKind::external_ip);
    CHECK(find(state, "192.0.2.5:30306")->kind == ServiceKind::node_port);
    CHECK(find(state, "192.0.2.5:30053")->kind == ServiceKind::node_port);
    CHECK(find(state, "192.0.2.5:30053")->external_local);
    CHECK(find(state, "192.0.2.5:30099")->kind == ServiceKind::node_port);
    CHECK(state.proxy == ProxyMode::ipvs);
}

TEST_CASE("without ipsets the device of the address tells the kind", "[ipvs]") {
    NodeState state;
    state.local_addresses = {{parse_prefix("127.0.0.0/8").value(), "lo"},
                             {parse_prefix("10.96.0.10/32").value(), "kube-dummy-if"},
                             {parse_prefix("192.0.2.5/32").value(), "eth0"},
                             {parse_prefix("198.51.100.7/32").value(), "eth0"},  // keepalived has it, too
                             {parse_prefix("198.51.100.7/32").value(), "kube-dummy-if"}};
    add_ipvs_services(
        {virtual_server("10.96.0.10:3306"), virtual_server("192.0.2.5:30306"), virtual_server("198.51.100.7:443")}, {},
        state);
    REQUIRE(state.services.size() == 3);
    CHECK(find(state, "198.51.100.7:443")->kind == ServiceKind::cluster_ip);
    CHECK(find(state, "10.96.0.10:3306")->kind == ServiceKind::cluster_ip);
    CHECK(find(state, "192.0.2.5:30306")->kind == ServiceKind::node_port);
    CHECK(state.proxy == ProxyMode::other_ipvs);
}

TEST_CASE("what the rules say about the proxy stands", "[ipvs]") {
    NodeState state;
    state.proxy = ProxyMode::ipvs;
    add_ipvs_services({virtual_server("10.96.0.10:3306")}, {}, state);
    CHECK(state.proxy == ProxyMode::ipvs);
    NodeState nothing;
    add_ipvs_services({}, {}, nothing);
    CHECK(nothing.proxy == ProxyMode::none);
    CHECK(nothing.services.empty());
}

TEST_CASE("virtual servers that cannot be Services are counted, not shown", "[ipvs]") {
    VirtualServer by_mark;
    by_mark.fwmark = 5;
    NodeState state;
    add_ipvs_services({by_mark, virtual_server("192.0.2.5:0"), virtual_server("10.96.0.10:3306")}, {}, state);
    CHECK(state.services.size() == 1);
    CHECK(state.skipped_virtual_servers == 2);
}

TEST_CASE("health check node ports belong to a Service", "[ipvs]") {
    const std::vector<IpSet> sets{{"KUBE-HEALTH-CHECK-NODE-PORT", "bitmap:port", {port_member(32000)}}};
    NodeState state;
    state.local_addresses = {{parse_prefix("192.0.2.5/32").value(), "eth0"}};
    add_ipvs_services({virtual_server("10.96.0.10:3306")}, sets, state);
    state.index();
    const auto* const service = state.find_service(endpoint("192.0.2.5:32000"), Protocol::tcp);
    REQUIRE(service);
    CHECK(service->kind == ServiceKind::health_check_node_port);
    CHECK(service->endpoints.empty());

    NodeState left_behind;
    left_behind.proxy = ProxyMode::iptables;
    add_ipvs_services({}, sets, left_behind);
    CHECK(left_behind.services.empty());
}
