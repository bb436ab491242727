// SPDX-License-Identifier: GPL-2.0-or-later
// Payloads of matches and targets that the tools of this machine do not write, and broken ones.
#include "state/xt_decode.hpp"

#include <arpa/inet.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/xt_addrtype.h>
#include <linux/netfilter/xt_multiport.h>
#include <linux/netfilter/xt_set.h>
#include <linux/netfilter/xt_tcpudp.h>

#include <catch2/catch_test_macros.hpp>
#include <string>

using namespace hptrace;

namespace {

const SetNameOf set_names = [](std::uint16_t index) {
    return index == 7 ? std::optional<std::string>("KUBE-CLUSTER-IP") : std::nullopt;
};
const XtContext ipv4{Family::ipv4, set_names};
const XtContext ipv6{Family::ipv6, set_names};

template <class T>
std::span<const std::byte> bytes(const T& payload) {
    return std::as_bytes(std::span(&payload, 1));
}

template <class T>
Rule match(std::string_view name, std::uint8_t revision, const T& payload) {
    Rule rule;
    decode_xt_match(name, revision, bytes(payload), ipv4, rule);
    return rule;
}

}  // namespace

TEST_CASE("a set match of every revision gives name, direction and sense") {
    const auto check = [](const Rule& rule, bool inverted) {
        REQUIRE(rule.unread.empty());
        REQUIRE(rule.sets.size() == 1);
        CHECK(rule.sets[0].value.set == "KUBE-CLUSTER-IP");
        CHECK(rule.sets[0].value.source == std::vector{false, true});
        CHECK(rule.sets[0].inverted == inverted);
    };
    xt_set_info_match_v0 old{};
    old.match_set.index = 7;
    old.match_set.u.compat.dim = 2;
    old.match_set.u.compat.flags = IPSET_DIM_TWO_SRC;
    check(match("set", 0, old), false);
    xt_set_info_match_v1 plain{};
    plain.match_set = {7, 2, IPSET_DIM_TWO_SRC | IPSET_INV_MATCH};
    check(match("set", 1, plain), true);
    check(match("set", 2, plain), true);
    xt_set_info_match_v3 third{};
    third.match_set = plain.match_set;
    check(match("set", 3, third), true);
    xt_set_info_match_v4 fourth{};
    fourth.match_set = {7, 2, IPSET_DIM_TWO_SRC};
    check(match("set", 4, fourth), false);
}

TEST_CASE("a set without a name is unread") {
    xt_set_info_match_v1 info{};
    info.match_set = {8, 2, 0};
    CHECK(match("set", 1, info).unread == std::vector<std::string>{"set (index 8 has no name)"});
}

TEST_CASE("payloads that are too short, of unknown revisions or contradictory are unread") {
    for (const auto* name : {"tcp", "udp", "sctp", "multiport", "addrtype", "comment", "mark", "set"}) {
        INFO(name);
        CHECK(match(name, 1, std::uint8_t{0}).unread.size() == 1);
        CHECK(match(name, 200, std::array<std::uint8_t, 512>{}).unread.size() == 1);
    }
    xt_set_info_match_v1 short_for_revision{};
    short_for_revision.match_set = {7, 1, 0};
    CHECK(match("set", 4, short_for_revision).unread.size() == 1);
    short_for_revision.match_set.dim = 200;
    CHECK(match("set", 1, short_for_revision).unread.size() == 1);
    xt_multiport_v1 ports{};
    ports.flags = XT_MULTIPORT_DESTINATION;
    ports.count = 200;
    CHECK(match("multiport", 1, ports).unread.size() == 1);
    ports.count = 1;
    ports.pflags[0] = 1;  // a range without an end
    CHECK(match("multiport", 1, ports).unread.size() == 1);
    for (const auto* name : {"DNAT", "SNAT", "REDIRECT"}) {
        Rule rule;
        decode_xt_target(name, 0, bytes(std::uint8_t{0}), ipv4, rule);
        CHECK(rule.unread.size() == 1);
        CHECK_FALSE(rule.target.to);
    }
}

TEST_CASE("a match nobody knows is unread, a known condition is not") {
    CHECK(match("brandnew", 0, 0).unread == std::vector<std::string>{"brandnew"});
    CHECK(match("", 0, 0).unread.size() == 1);
    const Rule rule = match("recent", 1, 0);
    CHECK(rule.unread.empty());
    CHECK(rule.conditions == std::vector<std::string>{"-m recent"});
}

TEST_CASE("any port is no condition, not any port is one") {
    xt_tcp info{};
    info.spts[1] = info.dpts[1] = 65535;
    CHECK(match("tcp", 0, info).destination_ports.empty());
    CHECK(match("tcp", 0, info).source_ports.empty());
    info.invflags = XT_TCP_INV_DSTPT;
    CHECK(match("tcp", 0, info).destination_ports.size() == 1);
}

TEST_CASE("addrtype's first revision is read too") {
    xt_addrtype_info info{};
    info.dest = XT_ADDRTYPE_LOCAL;
    CHECK(match("addrtype", 0, info).destination_local == true);
    info.invert_dest = 1;
    CHECK(match("addrtype", 0, info).destination_local == false);
    info = {};
    info.source = XT_ADDRTYPE_LOCAL | XT_ADDRTYPE_UNICAST;
    const Rule rule = match("addrtype", 0, info);
    CHECK_FALSE(rule.source_local);
    CHECK(rule.conditions.size() == 1);
}

TEST_CASE("DNAT of every revision") {
    Rule rule;
    nf_nat_ipv4_multi_range_compat old{};
    old.rangesize = 1;
    old.range[0].flags = NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED;
    old.range[0].min_ip = old.range[0].max_ip = inet_addr("10.244.1.7");
    old.range[0].min.all = old.range[0].max.all = htons(8080);
    decode_xt_target("DNAT", 0, bytes(old), ipv4, rule);
    CHECK(rule.target.to == parse_endpoint("10.244.1.7:8080"));
    CHECK_FALSE(rule.target.to_last);
    old.rangesize = 2;
    decode_xt_target("DNAT", 0, bytes(old), ipv4, rule);
    CHECK(rule.unread.size() == 1);

    nf_nat_range2 range{};
    range.flags = NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED;
    inet_pton(AF_INET6, "2001:db8::2", &range.min_addr);
    inet_pton(AF_INET6, "2001:db8::2", &range.max_addr);
    range.min_proto.all = htons(80);
    range.max_proto.all = htons(81);
    for (const auto revision : {std::uint8_t{1}, std::uint8_t{2}}) {
        rule = {};
        decode_xt_target("DNAT", revision, bytes(range), ipv6, rule);
        CHECK(rule.target.to == parse_endpoint("[2001:db8::2]:80"));
        CHECK(rule.target.to_last == parse_endpoint("[2001:db8::2]:81"));
    }
    range.flags = NF_NAT_RANGE_PROTO_SPECIFIED;  // --to-destination :80
    decode_xt_target("DNAT", 2, bytes(range), ipv6, rule);
    CHECK(rule.target.to->ip.is_unspecified());
}
