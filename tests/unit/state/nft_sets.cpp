// SPDX-License-Identifier: GPL-2.0-or-later
// Sets and maps of nf_tables: what the kernel's mean, and that nft's JSON of them means the same.
#include <fmt/format.h>

#include <catch2/catch_test_macros.hpp>

#include "same_rules.hpp"
#include "state/nft_json.hpp"
#include "state/rule_text.hpp"

using namespace hptrace;

namespace {

using Lines = std::vector<std::string>;

// The tables as both readers see them, of a ruleset that is in the kernel.
std::vector<RuleTable> read_both(const std::string& ruleset) {
    auto [native, printed] = in_fresh_netns([&] {
        feed("nft -f -", ruleset);
        return std::pair(value_of(read_nf_tables()), output_of("nft -j list ruleset"));
    });
    check_same(value_of(parse_nft_json(printed)), native);
    return comparable(std::move(native));
}

// A table of kube-proxy's name with these sets, and these rules in a chain.
std::vector<RuleTable> read_table(const std::string& sets, const std::string& rules, const std::string& family = "ip",
                                  const std::string& name = "kube-proxy") {
    return read_both("table " + family + " " + name + " {\n" + sets +
                     "\n chain one {\n }\n chain other {\n }\n chain c {\n" + rules +
                     "\n }\n chain p {\n type nat hook prerouting priority -100;\n }\n}\n");
}

Lines sets_of(const std::vector<RuleTable>& tables) {
    Lines lines;
    for (const auto& set : tables.at(0).sets) {
        for (const auto& element : set.elements) {
            lines.push_back(set.name + ": " + element_text(set.key, set.data, element));
        }
    }
    return lines;
}

Lines rules_of(const std::vector<RuleTable>& tables) {
    Lines lines;
    for (const auto& rule : tables.at(0).find_chain("c")->rules) {
        lines.push_back(rule_text(Backend::nftables, "c", rule));
    }
    return lines;
}

}  // namespace

TEST_CASE("elements of sets and maps are read with key, verdict or address, and comment", "[dump]") {
    const auto tables = read_table(R"(
        set addresses { type ipv4_addr; comment "a set"; elements = { 10.0.0.2, 10.0.0.1 comment "one" }; }
        map ips { type ipv4_addr . inet_proto . inet_service : verdict; elements = {
            10.96.0.10 . tcp . 3306 comment "a b" : goto one, 10.96.0.10 . udp . 53 : jump other,
            10.96.0.11 . sctp . 99 : drop, 10.96.0.12 . 47 . 1 : accept, 10.96.0.13 . tcp . 2 : return }; }
        map ports { type inet_proto . inet_service : ipv4_addr . inet_service; elements = {
            tcp . 8080 comment "VEBO64P7B2WCUAON" : 10.1.1.2 . 80 }; }
        map single { type inet_service : ipv4_addr; elements = { 80 : 10.1.1.2 }; }
        set empty { type inet_service; }
    )",
                                   "accept");
    CHECK(sets_of(tables) == Lines{"addresses: 10.0.0.1 comment \"one\"", "addresses: 10.0.0.2",
                                   "ips: 10.96.0.10 . tcp . 3306 comment \"a b\" : goto one",
                                   "ips: 10.96.0.10 . udp . 53 : jump other", "ips: 10.96.0.11 . sctp . 99 : drop",
                                   "ips: 10.96.0.12 . 47 . 1 : accept", "ips: 10.96.0.13 . tcp . 2 : return",
                                   "ports: tcp . 8080 comment \"VEBO64P7B2WCUAON\" : 10.1.1.2 . 80",
                                   "single: 80 : 10.1.1.2"});
    CHECK(tables[0].sets.size() == 5);
    CHECK(std::ranges::all_of(tables[0].sets, &NftSet::whole));

    CHECK(sets_of(read_table(R"(
        map ips { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; elements = {
            fd00::1 . tcp . 1 : fd00::2 . 80 }; }
        set addresses { type ipv6_addr; elements = { fd00::1 }; }
    )",
                             "accept", "ip6", "crio-hostports")) ==
          Lines{"addresses: fd00::1", "ips: fd00::1 . tcp . 1 : fd00::2 . 80"});
}

TEST_CASE("sets of other types, of ranges, and those that packets fill are left out", "[dump]") {
    const auto tables = read_table(R"(
        set hairpins { type ipv4_addr . ipv4_addr; elements = { 10.0.0.1 . 10.0.0.1 }; }
        set ranges { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 }; }
        set affinity { type ipv4_addr; flags dynamic,timeout; timeout 10m; elements = { 10.0.0.1 }; }
        set names { type ifname; elements = { "lo" }; }
        map marks { type inet_service : mark; elements = { 80 : 1 }; }
        map ports { type inet_service : inet_service; elements = { 80 : 8080 }; }
        map both { type ipv4_addr . ipv4_addr : verdict; elements = { 10.0.0.1 . 10.0.0.1 : drop }; }
    )",
                                   R"(
        ip saddr . ip daddr @hairpins drop
        ip saddr @affinity goto one
        update @affinity { ip saddr }
        ip saddr . ip daddr vmap @both
        meta mark set tcp dport map @marks
        tcp dport 80 dnat to 10.0.0.1:tcp dport map @ports)");
    CHECK(tables[0].sets.empty());
    CHECK(rules_of(tables) == Lines{"@hairpins drop", "@affinity goto one", "dynset", "[map @both]",
                                    "meta l4proto tcp [map @marks] meta set",
                                    "tcp dport 80 [map @ports] [dnat to what is not constant] dnat"});
}

TEST_CASE("lookups whose result is a verdict or the new destination are decoded", "[dump]") {
    const std::string sets = R"(
        map ips { type ipv4_addr . inet_proto . inet_service : verdict; }
        map ports { type inet_proto . inet_service : verdict; }
        map to { type inet_proto . inet_service : ipv4_addr . inet_service; }
        map address { type inet_service : ipv4_addr; }
        set nodes { type ipv4_addr; }
    )";
    CHECK(rules_of(read_table(sets, R"(
        ip daddr . meta l4proto . th dport vmap @ips
        ip daddr @nodes meta l4proto . th dport vmap @ports
        fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @ports
        ip saddr . meta l4proto . th sport vmap @ips
        dnat ip addr . port to meta l4proto . th dport map @to
        dnat to tcp dport map @address
        numgen random mod 2 vmap { 0 : goto one, 1 : goto other }
        numgen random mod 1 vmap { 0 : goto one }
        numgen inc mod 2 vmap { 0 : drop, 1 : goto other }
        meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.0.0.1 . 80, 1 : 10.0.0.2 . 81 }
        meta l4proto tcp dnat to numgen random mod 2 map { 0 : 10.0.0.1, 1 : 10.0.0.2 }
        tcp dport vmap { 80 : goto one, 443 : drop }
        ip saddr vmap { 10.0.0.1 : return })")) ==
          Lines{"ip daddr . meta l4proto . th dport vmap @ips", "@nodes meta l4proto . th dport vmap @ports",
                "ip daddr != 127.0.0.0/8 fib daddr type local meta l4proto . th dport vmap @ports",
                "ip saddr . meta l4proto . th sport vmap @ips", "dnat to meta l4proto . th dport map @to",
                "meta l4proto tcp dnat to th dport map @address", "numgen vmap { goto one, goto other }",
                "numgen vmap { goto one }", "numgen vmap { goto other, drop }",
                "meta l4proto tcp dnat to numgen map { 10.0.0.1 . 80, 10.0.0.2 . 81 }",
                "meta l4proto tcp dnat to numgen map { 10.0.0.1, 10.0.0.2 }",
                "meta l4proto tcp th dport vmap { goto one, drop }", "ip saddr vmap { return }"});
    CHECK(rules_of(read_table(R"(
        map ips { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
        map back { type inet_proto . ipv6_addr : verdict; })",
                              R"(
        dnat ip6 addr . port to ip6 daddr . meta l4proto . th dport map @ips
        meta l4proto . ip6 daddr vmap @back
        meta l4proto udp dnat ip6 to numgen random mod 2 map { 0 : fd00::1 . 80, 1 : fd00::2 . 80 })",
                              "ip6")) == Lines{"dnat to ip6 daddr . meta l4proto . th dport map @ips",
                                               "meta l4proto . ip6 daddr vmap @back",
                                               "meta l4proto udp dnat to numgen map { fd00::1 . 80, fd00::2 . 80 }"});
}

TEST_CASE("what is looked up in another way is named, not guessed", "[dump]") {
    CHECK(rules_of(read_table(R"(
        map ports { type ipv4_addr . inet_service : verdict; }
        map to { type inet_service : ipv4_addr; }
    )",
                              R"(
        ct original ip daddr . tcp dport vmap @ports
        jhash ip saddr mod 2 vmap { 0 : goto one, 1 : goto other }
        tcp dport vmap { 80-90 : goto one }
        ip saddr vmap { 10.0.0.0/8 : goto one }
        tcp dport 80 dnat to tcp dport map @to : 90)")) ==
          Lines{"meta l4proto tcp [map @ports]", "[map @__map]", "meta l4proto tcp [map @__map]", "[map @__map]",
                "tcp dport 80 [dnat to what is not constant] dnat to th dport map @to"});
}

TEST_CASE("an element for all other keys, or of no known kind, makes a map less than whole", "[dump]") {
    const auto tables = read_table(R"(
        map ports { type inet_proto . inet_service : verdict; elements = { tcp . 80 : goto one, * : goto other }; })",
                                   "meta l4proto . th dport vmap @ports");
    REQUIRE(tables[0].sets.size() == 1);
    CHECK_FALSE(tables[0].sets[0].whole);
    CHECK(sets_of(tables) == Lines{"ports: tcp . 80 : goto one"});
    CHECK(rules_of(tables) == Lines{"meta l4proto . th dport vmap @ports"});

    const auto of_json = [](const std::string& element) {
        const auto parsed = value_of(parse_nft_json(
            R"({"nftables": [{"chain": {"family": "ip", "table": "kube-proxy", "name": "p", "type": "nat"}},
                {"map": {"family": "ip", "table": "kube-proxy", "name": "m", "type": ["inet_proto", "inet_service"],
                         "map": "verdict", "elem": [)" +
            element + "]}}]}"));
        const auto& set = parsed.at(0).sets.at(0);
        return fmt::format("{} {}", set.elements.size(), set.whole ? "whole" : "not whole");
    };
    const std::string key = R"({"concat": ["tcp", 80]})";
    CHECK(of_json("[" + key + R"(, {"goto": {"target": "c"}}])") == "1 whole");
    for (const auto& element :
         {std::string("5"), std::string("[]"), "[" + key + "]", "[" + key + R"(, {"goto": {}}])",
          "[" + key + R"(, {"goto": null}])", "[" + key + R"(, {"newverdict": null}])",
          std::string(R"([{"concat": ["tcp"]}, {"drop": null}])"),
          std::string(R"([{"concat": ["tcp", 65536]}, {"drop": null}])"),
          std::string(R"([{"concat": [80, "tcp"]}, {"drop": null}])"), std::string(R"(["*", {"drop": null}])"),
          std::string(R"([{"elem": {}}, {"drop": null}])")}) {
        INFO(element);
        CHECK(of_json(element) == "0 not whole");
    }
}

TEST_CASE("sets of tables that hold neither Services nor HostPorts are not read", "[dump]") {
    const auto tables = read_table(
        "set addresses { type ipv4_addr; elements = { 10.0.0.1 }; }\n map m { type inet_service : verdict; }",
        "ip saddr @addresses drop\n tcp dport vmap @m\n numgen random mod 1 vmap { 0 : goto one }", "ip", "firewall");
    CHECK(tables[0].sets.empty());
    CHECK(rules_of(tables) == Lines{"@addresses drop", "meta l4proto tcp [map @m]", "[map @__map]"});
}

TEST_CASE("large maps come in several messages, all of them are read", "[dump]") {
    std::string elements;
    for (int i = 0; i < 10000; ++i) {
        elements += fmt::format("{}10.{}.{}.{} . tcp . 80 comment \"ns-{}/service\" : goto one", i == 0 ? "" : ",\n",
                                96 + (i >> 16), (i >> 8) & 255, i & 255, i);
    }
    const auto tables =
        read_table("map ips { type ipv4_addr . inet_proto . inet_service : verdict; elements = { " + elements + " }; }",
                   "ip daddr . meta l4proto . th dport vmap @ips");
    REQUIRE(tables[0].sets.size() == 1);
    const auto& found = tables[0].sets[0].elements;
    CHECK(tables[0].sets[0].whole);
    REQUIRE(found.size() == 10000);
    CHECK(element_text(tables[0].sets[0].key, SetData::verdict, found.back()) ==
          "10.96.39.15 . tcp . 80 comment \"ns-9999/service\" : goto one");
}
