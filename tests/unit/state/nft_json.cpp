// SPDX-License-Identifier: GPL-2.0-or-later
// nft's JSON: what it means, and that the kernel's rules read natively mean the same.
#include "state/nft_json.hpp"

#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include "same_rules.hpp"
#include "state/rule_text.hpp"

using namespace hptrace;
using nlohmann::json;

namespace {

// The rules as both readers see them, of a ruleset that is in the kernel.
void check_both(const std::string& ruleset) {
    const auto [native, printed] = in_fresh_netns([&] {
        feed("nft -f -", ruleset);
        return std::pair(value_of(read_nf_tables()), output_of("nft -j list ruleset"));
    });
    const auto from_json = parse_nft_json(printed);
    REQUIRE(from_json);
    check_same(*from_json, native);
}

std::string in_chain(const std::string& family, const std::string& rules) {
    return "table " + family +
           " t {\n set named {\n type inet_service\n }\n set addresses {\n type ipv4_addr\n flags dynamic,timeout\n }\n"
           " map ports {\n type inet_service : verdict\n }\n counter seen {\n }\n chain other {\n }\n chain c {\n" +
           rules + "\n }\n chain p {\n type nat hook prerouting priority -100;\n }\n}\n";
}

std::string error_of(const std::string& text) {
    const auto tables = parse_nft_json(text);
    return tables ? "understood" : describe(tables.error());
}

// The rule with these statements, in a table ip.
Rule rule(const std::string& statements) {
    return decode_nft_json_rule(json::parse(R"({"expr": )" + statements + "}"), Family::ipv4);
}

}  // namespace

TEST_CASE("what nft prints as JSON is read as the kernel's own rules are", "[dump]") {
    check_both(in_chain("ip", R"(
        tcp dport 8080 dnat to 10.0.0.2:80 comment "icee6"
        ip daddr 192.168.0.2 tcp dport 8083 counter dnat to 10.0.0.2:83 comment "a b 'c'"
        tcp dport 80 dnat to 10.0.0.2
        tcp dport 80 dnat to :90
        udp dport 80-90 redirect to :70
        udp dport != 80-90 redirect
        sctp dport != 99 accept
        th dport 99 drop
        tcp sport < 1024 tcp dport >= 80 accept
        tcp sport > 1024 tcp dport <= 80 accept
        ip saddr 10.0.0.0/9 ip daddr != 10.0.0.0/24 drop
        ip saddr != 10.0.0.1-10.0.0.9 drop
        ip daddr & 255.0.255.0 == 10.0.1.0 accept
        tcp dport & 0xff == 80 accept
        iifname "lo" oifname != "eth*" return
        iif "lo" accept
        fib daddr type local goto other
        fib daddr type multicast drop
        fib saddr type local fib daddr type != local return
        fib daddr . iif type local accept
        fib saddr oif 0 drop
        tcp dport 1 dnat to 10.0.0.1-10.0.0.4:70-80
        meta l4proto != tcp accept
        meta l4proto { tcp, udp } th dport 99 counter drop
        ip protocol tcp jump other
        ip protocol 99 accept
        meta l4proto udp masquerade
        ip saddr 10.0.0.2 snat to 192.0.2.1
        tcp dport @named accept
        tcp dport != @named accept
        ip saddr @addresses drop
        ip saddr . tcp dport { 10.0.0.1 . 80 } accept
        tcp dport { 80, 90 } dnat to 10.0.0.2
        tcp dport vmap { 80 : jump other, 90 : drop }
        tcp dport vmap @ports
        dnat to tcp dport map { 80 : 10.0.0.2 }
        dnat to numgen random mod 2 map { 0 : 10.0.0.1, 1 : 10.0.0.2 }
        ct state established tcp dport 80 accept
        ct state established,related accept
        ct mark 5 accept
        meta mark & 0x4000 == 0x4000 return
        meta mark 5 meta skuid 0 return
        meta mark set meta mark | 0x4000
        meta priority set 1
        ct mark set 1
        tcp dport 80 ct mark set 1 dnat to 10.0.0.2:80
        limit rate 5/second accept
        quota over 5 mbytes drop
        counter name "seen" accept
        counter name "seen"
        tcp flags syn tcp dport 80 accept
        icmp type echo-request accept
        ip ttl 1 drop
        ip dscp 1 drop
        update @addresses { ip saddr timeout 1m }
        log prefix "x"
        numgen random mod 2 1 accept
        jhash ip saddr mod 2 1 accept
        ether saddr 00:11:22:33:44:55 drop)"));
    check_both(in_chain("inet", R"(
        ip daddr 1.2.3.4 tcp dport 80 dnat ip to 10.0.0.2:80
        ip6 daddr fd00::/9 tcp dport 80 dnat ip6 to [fd00::1]:80
        ip6 saddr fe80::/10 accept
        tcp dport 8080 dnat ip to 10.88.0.14:8080
        meta nfproto ipv6 drop
        tcp dport 80 accept
        ip saddr . tcp dport { 10.0.0.1 . 80 } accept
        udp dport 53 redirect to :54)"));
    check_both(in_chain("ip6", R"(
        ip6 nexthdr udp udp dport 80 dnat to [fd00::1]:80
        ip6 daddr fd00::1 tcp dport 80 dnat to fd00::1-fd00::4
        ip6 hoplimit 1 drop
        icmpv6 type echo-request accept)"));
    check_both(
        "table ip nat {\n chain prerouting {\n type nat hook prerouting priority dstnat;\n accept\n }\n}\n"
        "table inet fw {\n chain in {\n type filter hook input priority 0;\n tcp dport 22 accept\n }\n}\n"
        "table ip filter {\n chain in {\n type filter hook input priority 0;\n reject\n }\n}\n"
        "table bridge b {\n chain c {\n type filter hook input priority 0;\n accept\n }\n}\n");
}

TEST_CASE("rules of iptables-nft have no payload in JSON: they are not understood", "[dump]") {
    const auto printed = in_fresh_netns([] {
        restore("nft", Family::ipv4, "*nat\n-A OUTPUT -m addrtype --dst-type LOCAL -j MARK --set-xmark 0x1\nCOMMIT\n");
        return output_of("nft -j list ruleset");
    });
    const auto tables = parse_nft_json(printed);
    REQUIRE(tables);
    REQUIRE(tables->size() == 1);
    CHECK(tables->front().backend == Backend::iptables_nft);
    const auto& only = tables->front().find_chain("OUTPUT")->rules.at(0);
    CHECK(only.unread == std::vector<std::string>{"addrtype", "MARK"});
    CHECK(only.target.kind == TargetKind::mark);
}

TEST_CASE("what JSON says in an unknown way is named, not guessed", "[dump]") {
    const auto unread = [](const std::string& statements) { return rule(statements).unread; };
    using Texts = std::vector<std::string>;
    CHECK(unread(R"([{"newstatement": {}}])") == Texts{"newstatement"});
    CHECK(unread(R"(["?"])") == Texts{"statement"});
    CHECK(unread(R"([{"match": {}}])") == Texts{"match"});
    CHECK(unread(R"([{"match": {"op": "==", "left": {"new": 1}, "right": 1}}])") == Texts{"cmp"});
    const auto dport = [&](const std::string& right) {
        return unread(
            R"([{"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": )" + right +
            "}}]");
    };
    for (const auto* value : {"65536", "-1", "1e300", "18446744073709551615", "\"http\"", "null", "[]", "{}"}) {
        INFO(value);
        CHECK(dport(value) == Texts{"comparison with what is not understood"});
    }
    CHECK(dport("80").empty());
    CHECK(dport(R"({"range": [80, 99999]})") == Texts{"range"});
    CHECK(dport(R"({"range": [80]})") == Texts{"comparison with what is not understood"});
    const auto daddr = [&](const std::string& right) {
        return unread(
            R"([{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "daddr"}}, "right": )" + right +
            "}}]");
    };
    CHECK(daddr(R"({"prefix": {"addr": "10.0.0.0", "len": 33}})") == Texts{"address comparison"});
    CHECK(daddr(R"({"prefix": {"len": 3}})") == Texts{"address comparison"});
    CHECK(daddr(R"("fd00::1")") == Texts{"comparison with what is not understood"});
    for (const auto* value : {R"({"addr": "fd00::1"})", R"({"addr": "x"})", R"({"port": 65536})", R"({"addr": 5})",
                              R"({"addr": {"range": ["10.0.0.1"]}})"}) {
        INFO(value);
        CHECK(unread(std::string(R"([{"dnat": )") + value + "}]") == Texts{"dnat to what is not constant"});
    }
    CHECK(unread(R"([{"redirect": {"port": "x"}}])") == Texts{"redirect to what is not constant"});
    CHECK(decode_nft_json_rule(json::parse(R"({"expr": [{"dnat": {"port": 80}}]})"), std::nullopt).unread ==
          Texts{"dnat of no family"});
}

TEST_CASE("text that is no JSON of nft is refused, with the line", "[dump]") {
    CHECK(error_of("") == "it is empty");
    CHECK(error_of("{\"nftables\": [\n{\"metainfo\": {}},\n{\"table\": ") == "line 3: not JSON, or cut off");
    CHECK(error_of("Operation not permitted (you must be root)\n") ==
          "not JSON but 'Operation not permitted (you must be root)'");
    CHECK(error_of(R"({"nftables": [{"rule": {"handle": 1e999}}]})").starts_with("not understood ("));  // no double
    CHECK(error_of("[]") == "not what nft -j prints: no \"nftables\" in it");
    CHECK(error_of(R"({"nftables": 5})") == "not what nft -j prints: no \"nftables\" in it");
    CHECK(error_of(R"({"nftables": []})") == "understood");
    CHECK(error_of(R"({"nftables": [5, null, "x", {"chain": 5}]})") == "understood");
    CHECK(error_of(R"({"nftables": [{"chain": {"family": "ip"}}]})") == "a chain without a name");
    CHECK(error_of(R"({"nftables": [{"chain": {"family": "ip", "table": "t", "name": "c", "hook": "output"}}]})") ==
          "chain c of table t has no priority");
    CHECK(error_of(R"({"nftables": [{"rule": {"family": "ip", "table": "t", "chain": "c"}}]})") ==
          "a rule of table 't', which has no chain");
    std::string deep;  // as deep as no program prints it
    for (int i = 0; i < 100000; ++i) {
        deep += "[";
    }
    CHECK(error_of(deep) == "line 1: not JSON, or cut off");
    std::string nested = "0";
    for (int i = 0; i < 1000; ++i) {
        nested = R"({"&": [)" + nested + ", 1]}";
    }
    CHECK_FALSE(rule(R"([{"match": {"op": "==", "left": )" + nested + R"(, "right": 1}}])").unread.empty());
}
