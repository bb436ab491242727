// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/ipset.hpp"

#include <arpa/inet.h>
#include <linux/netfilter/ipset/ip_set.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>

#include "fresh_netns.hpp"
#include "messages.hpp"

using namespace hptrace;

namespace {

SetMember member(const char* ip, std::uint16_t port, std::uint8_t protocol) {
    return {.ip = parse_address(ip), .port = port, .protocol = protocol};
}

SetMember port_member(std::uint16_t port) {
    return {.ip = std::nullopt, .port = port, .protocol = std::nullopt};
}

const IpSet* find(const std::vector<IpSet>& sets, std::string_view name) {
    const auto found = std::ranges::find(sets, name, &IpSet::name);
    return found == sets.end() ? nullptr : &*found;
}

MessageBuilder set_message(bool first) {
    MessageBuilder message(nfnl_type(NFNL_SUBSYS_IPSET, IPSET_CMD_LIST), NLM_F_MULTI);
    message.extra(nfgenmsg{.nfgen_family = AF_INET, .version = 0, .res_id = 0});
    message.attribute(IPSET_ATTR_PROTOCOL, std::uint8_t{7}).text(IPSET_ATTR_SETNAME, "KUBE-CLUSTER-IP");
    if (first) {
        message.text(IPSET_ATTR_TYPENAME, "hash:ip,port");
    }
    message.nest(IPSET_ATTR_ADT | NLA_F_NESTED, [&](MessageBuilder& members) {
        members.nest(IPSET_ATTR_DATA | NLA_F_NESTED, [&](MessageBuilder& data) {
            data.nest(IPSET_ATTR_IP | NLA_F_NESTED, [](MessageBuilder& ip) {
                ip.attribute(IPSET_ATTR_IPADDR_IPV4 | NLA_F_NET_BYTEORDER, htonl(0x0a60000a));
            });
            data.attribute(IPSET_ATTR_PORT | NLA_F_NET_BYTEORDER, htons(first ? 3306 : 3307));
            data.attribute(IPSET_ATTR_PROTO, std::uint8_t{6});
        });
    });
    return message;
}

}  // namespace

TEST_CASE("kube-proxy's sets are read with their members, others are left alone", "[ipset]") {
    const auto sets = in_fresh_netns([] {
        run("ipset create KUBE-CLUSTER-IP hash:ip,port");
        run("ipset add KUBE-CLUSTER-IP 10.96.0.10,tcp:3306 && ipset add KUBE-CLUSTER-IP 10.96.0.53,udp:53");
        run("ipset create KUBE-6-CLUSTER-IP hash:ip,port family inet6");
        run("ipset add KUBE-6-CLUSTER-IP fd00:96::a,sctp:99");
        run("ipset create KUBE-NODE-PORT-TCP bitmap:port range 0-65535 && ipset add KUBE-NODE-PORT-TCP 30306");
        run("ipset create KUBE-LOAD-BALANCER hash:ip,port timeout 100 comment counters");
        run("ipset create KUBE-IPVS-IPS hash:ip && ipset add KUBE-IPVS-IPS 10.96.0.10");
        run("ipset create blocklist hash:ip && ipset add blocklist 192.0.2.1");
        return read_ipsets("KUBE-");
    });
    REQUIRE(sets);
    CHECK(sets->size() == 5);
    CHECK_FALSE(find(*sets, "blocklist"));
    const auto* const cluster = find(*sets, "KUBE-CLUSTER-IP");
    REQUIRE(cluster);
    CHECK(cluster->type == "hash:ip,port");
    CHECK(cluster->members.size() == 2);
    CHECK(cluster->contains(member("10.96.0.10", 3306, 6)));
    CHECK(cluster->contains(member("10.96.0.53", 53, 17)));
    CHECK_FALSE(cluster->contains(member("10.96.0.53", 53, 6)));
    const auto* const cluster6 = find(*sets, "KUBE-6-CLUSTER-IP");
    REQUIRE(cluster6);
    CHECK(cluster6->contains(member("fd00:96::a", 99, 132)));
    const auto* const node_ports = find(*sets, "KUBE-NODE-PORT-TCP");
    REQUIRE(node_ports);
    CHECK(node_ports->type == "bitmap:port");
    CHECK(node_ports->members == std::vector{port_member(30306)});
    const auto* const load_balancer = find(*sets, "KUBE-LOAD-BALANCER");
    REQUIRE(load_balancer);
    CHECK(load_balancer->type == "hash:ip,port");
    CHECK(load_balancer->members.empty());
}

TEST_CASE("large sets come in many messages", "[ipset]") {
    const auto sets = in_fresh_netns([] {
        run("(echo create KUBE-CLUSTER-IP hash:ip,port; i=0; while [ $i -lt 5000 ]; do "
            "echo add KUBE-CLUSTER-IP 10.96.$((i / 250)).$((i % 250)),tcp:80; i=$((i + 1)); done) | ipset restore");
        return read_ipsets("KUBE-");
    });
    REQUIRE(sets);
    REQUIRE(sets->size() == 1);
    CHECK(sets->front().type == "hash:ip,port");
    CHECK(sets->front().members.size() == 5000);
    CHECK(sets->front().contains(member("10.96.19.249", 80, 6)));
}

TEST_CASE("no sets is no error", "[ipset]") {
    const auto sets = in_fresh_netns([] { return read_ipsets("KUBE-"); });
    REQUIRE(sets);
    CHECK(sets->empty());
}

TEST_CASE("messages of one set are put together", "[ipset]") {
    std::vector<IpSet> sets;
    auto first = set_message(true);
    auto second = set_message(false);
    REQUIRE(parse_ipset(first.message(), sets));
    REQUIRE(parse_ipset(second.message(), sets));
    REQUIRE(sets.size() == 1);
    CHECK(sets.front().type == "hash:ip,port");
    CHECK(sets.front().members == std::vector{member("10.96.0.10", 3306, 6), member("10.96.0.10", 3307, 6)});
}

TEST_CASE("malformed sets are errors", "[ipset]") {
    for (std::size_t cut = 1; cut < 60; ++cut) {
        INFO(cut << " bytes missing");
        std::vector<IpSet> sets;
        auto message = set_message(true);
        // Cut between attributes it is well-formed, but has no member then.
        CHECK((!parse_ipset(message.message(cut), sets) || sets.front().members.empty()));
    }
    std::vector<IpSet> sets;
    MessageBuilder nameless(nfnl_type(NFNL_SUBSYS_IPSET, IPSET_CMD_LIST));
    nameless.extra(nfgenmsg{});
    CHECK_FALSE(parse_ipset(nameless.message(), sets));
}
