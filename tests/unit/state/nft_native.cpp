// SPDX-License-Identifier: GPL-2.0-or-later
// Native nf_tables rules, written by nft: what is linear is decoded, what is not is said to be unread.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>

#include "rules.hpp"
#include "state/rule_text.hpp"

using namespace hptrace;

namespace {

std::vector<RuleTable> read_nft(const std::string& ruleset) {
    return in_fresh_netns([&] {
        feed("nft -f -", ruleset);
        return value_of(read_nf_tables());
    });
}

const RuleTable& only(const std::vector<RuleTable>& tables) {
    if (tables.size() != 1) {
        throw std::runtime_error("not one table");
    }
    return tables.front();
}

// One rule of a nat chain.
std::string reread(const std::string& rule) {
    const auto tables =
        read_nft("table ip t {\n set named {\n type inet_service\n }\n chain other {\n }\n chain c {\n " + rule +
                 "\n }\n chain p {\n type nat hook prerouting priority -100;\n }\n}\n");
    const Chain* chain = only(tables).find_chain("c");
    return chain == nullptr || chain->rules.size() != 1 ? "?" : rule_text(Backend::nftables, "c", chain->rules.front());
}

}  // namespace

TEST_CASE("linear native rules are decoded as nft prints them") {
    for (const std::string rule : {
             "tcp dport 8080 dnat to 10.0.0.2:80 comment \"icee6\"",
             "ip daddr 192.168.0.2/32 tcp dport 8083 dnat to 10.0.0.2:83 comment \"a b c\"",
             "tcp dport 80 dnat to 10.0.0.2",
             "udp dport 80-90 redirect to :70",
             "sctp dport != 99 accept",
             "ip saddr 10.0.0.0/9 ip daddr != 10.0.0.0/24 drop",
             "ip daddr != 10.0.0.1/32 ip daddr != 10.0.0.3/32 jump other",
             "iifname \"lo\" oifname != \"eth*\" return",
             "fib daddr type local goto other",
             "fib saddr type local fib daddr type != local return",
             "tcp dport 1 dnat to 10.0.0.1-10.0.0.4:70-80",
             "tcp sport 1024-65535 tcp dport 22 accept",
             "meta l4proto != tcp accept",
             "meta l4proto udp masquerade",
             "ip saddr 10.0.0.2/32 snat to 192.0.2.1",
         }) {
        INFO(rule);
        CHECK(reread(rule) == rule);
    }
}

TEST_CASE("what nft shortens means the same") {
    CHECK(reread("ip protocol tcp accept") == "meta l4proto tcp accept");
    CHECK(reread("meta l4proto { tcp, udp } th dport 99 counter drop") == "th dport 99 [anonymous set] drop");
    CHECK(reread("tcp dport < 80 accept") == "tcp dport != 80-65535 accept");
    CHECK(reread("tcp dport >= 80 accept") == "tcp dport 80-65535 accept");
    CHECK(reread("tcp dport @named accept") == "meta l4proto tcp @named accept");
    CHECK(reread("tcp dport != @named accept") == "meta l4proto tcp != @named accept");
}

TEST_CASE("known conditions that are not evaluated do not hide a rule") {
    CHECK(reread("ct state established tcp dport 80 accept") == "tcp dport 80 ct accept");
    CHECK(reread("meta mark & 0x4000 == 0x4000 return") == "meta mark return");
    CHECK(reread("limit rate 5/second accept") == "limit accept");
    CHECK(reread("fib daddr . iif type local accept") == "fib daddr type local fib of an interface or mark accept");
    CHECK(reread("tcp dport 80 ct mark set 1 dnat to 10.0.0.2:80") == "tcp dport 80 dnat to 10.0.0.2:80");
    CHECK(reread("tcp flags syn tcp dport 80 accept") == "tcp dport 80 transport header accept");
}

TEST_CASE("what is not understood is named, not guessed") {
    CHECK(reread("tcp dport { 80, 90 } dnat to 10.0.0.2") == "meta l4proto tcp [anonymous set] dnat to 10.0.0.2");
    CHECK(reread("tcp dport vmap { 80 : jump other }").find("[map") != std::string::npos);
    CHECK(reread("dnat to tcp dport map { 80 : 10.0.0.2 }").find("[map") != std::string::npos);
    CHECK(reread("ip daddr & 255.0.255.0 == 10.0.1.0 accept") == "[address mask with holes] accept");
    CHECK(reread("tcp dport & 0xff == 80 accept") == "meta l4proto tcp [port comparison] accept");
}

TEST_CASE("inet tables keep the families of their rules apart") {
    const auto tables = read_nft(
        "table inet t {\n chain c {\n ip daddr 1.2.3.4 tcp dport 80 dnat ip to 10.0.0.2:80\n"
        " ip6 daddr fd00::/9 tcp dport 80 dnat ip6 to [fd00::1]:80\n tcp dport 80 accept\n }\n"
        " chain p {\n type nat hook prerouting priority -100;\n jump c\n }\n}\n");
    const RuleTable& table = only(tables);
    CHECK(table.families == std::vector{Family::ipv4, Family::ipv6});
    CHECK(table.backend == Backend::nftables);
    const Chain* chain = table.find_chain("c");
    REQUIRE(chain != nullptr);
    REQUIRE(chain->rules.size() == 3);
    CHECK(chain->rules[0].family == Family::ipv4);
    CHECK(rule_text(Backend::nftables, "c", chain->rules[0]) == "ip daddr 1.2.3.4/32 tcp dport 80 dnat to 10.0.0.2:80");
    CHECK(chain->rules[1].family == Family::ipv6);
    CHECK(rule_text(Backend::nftables, "c", chain->rules[1]) == "ip6 daddr fd00::/9 tcp dport 80 dnat to [fd00::1]:80");
    CHECK_FALSE(chain->rules[2].family);
}

TEST_CASE("handles, hooks and priorities are the kernel's") {
    const auto tables = read_nft(
        "table ip nat {\n chain prerouting {\n type nat hook prerouting priority dstnat;\n tcp dport 80 accept\n "
        "}\n}\n");
    const RuleTable& table = only(tables);
    CHECK(table.backend == Backend::nftables);  // iptables-nft's base chain would be PREROUTING
    const Chain* chain = table.find_chain("prerouting");
    REQUIRE(chain != nullptr);
    CHECK(chain->hook == "PREROUTING");
    CHECK(chain->priority == -100);
    CHECK(chain->type == "nat");
    REQUIRE(chain->rules.size() == 1);
    CHECK(chain->rules.front().handle.value_or(0) > 0);
}

TEST_CASE("a ruleset of the same generation is not read again") {
    const auto seen = in_fresh_netns([] {
        const auto version = [](std::optional<std::uint64_t> known) {
            const auto read = value_of(read_nf_tables_if_new(known));
            return read ? std::optional(read->version) : std::nullopt;
        };
        std::vector<bool> is_new;
        const auto empty = version(std::nullopt);
        is_new.push_back(empty.has_value());
        is_new.push_back(version(empty).has_value());
        run("nft add table ip cni_hostport");
        const auto first = version(empty);
        is_new.push_back(first.has_value());
        run("nft list ruleset >/dev/null");
        is_new.push_back(version(first).has_value());
        run("nft add chain ip cni_hostport hostports");
        is_new.push_back(version(first).has_value());
        return is_new;
    });
    CHECK(seen == std::vector{true, false, true, false, true});
}
