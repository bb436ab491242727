// SPDX-License-Identifier: GPL-2.0-or-later
// iptables-legacy and iptables-nft, written by the real tools: both readers give the same model of the same rules.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>

#include "rules.hpp"
#include "state/rule_text.hpp"

using namespace hptrace;

namespace {

const std::string ipv4_rules = R"(*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:A - [0:0]
:B - [0:0]
:EMPTY - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j A
-A PREROUTING -m addrtype --dst-type LOCAL -j B
-A OUTPUT ! -d 127.0.0.0/8 -o lo -m addrtype ! --src-type LOCAL -g B
-A POSTROUTING -m mark --mark 0x2000/0x2000 -j MASQUERADE --random-fully
-A POSTROUTING -s 10.0.0.0/9 -j SNAT --to-source 192.0.2.1
-A A -p tcp -m comment --comment "dnat name: \"cbr0\" id: \"4f\"" -m multiport --dports 80,443,8000:8100 -j B
-A A -p sctp -m sctp --dport 99 -j B
-A A -p udp -m udp --sport 1:1023 ! --dport 53 -j RETURN
-A A -p tcp -m multiport ! --sports 80,443 -j ACCEPT
-A A ! -p icmp -j EMPTY
-A A -i eth+ -m statistic --mode random --probability 0.5 -j RETURN
-A A ! -i eth0 -m conntrack --ctstate NEW
-A B -d 192.168.0.2/32 -p tcp -m tcp --dport 443 -j DNAT --to-destination 10.244.1.7:8080
-A B -p tcp -m tcp --dport 444 -j DNAT --to-destination 10.244.1.7-10.244.1.9:80-90
-A B -p tcp -m tcp --dport 445 -j DNAT --to-destination 10.244.1.7
-A B -p tcp -m tcp --sport 5 --dport 446 -j REDIRECT --to-ports 15001
-A B -m addrtype --dst-type MULTICAST -j MARK --set-xmark 0x4000/0x4000
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A OUTPUT -d 10.96.0.1/32 -p tcp -m comment --comment "default/web:http has no endpoints" -m tcp --dport 80 -j REJECT
-A INPUT -p tcp -j DROP
COMMIT
)";

const std::string ipv6_rules = R"(*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:B - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j B
-A PREROUTING ! -d ::1/128 -j B
-A PREROUTING -d fd00::/9 ! -i eth0 -j B
-A B ! -s fe80::/10 -d 2001:db8::9/128 -p tcp -m tcp --dport 80 -j DNAT --to-destination [2001:db8::2]:8080
-A B -p udp -m udp --dport 53:54 -j DNAT --to-destination 2001:db8::2
COMMIT
)";

std::vector<std::string> texts(const RuleTable& table) {
    std::vector<std::string> lines;
    for (const Chain& chain : table.chains) {
        for (const Rule& rule : chain.rules) {
            lines.push_back(rule_text(Backend::iptables_legacy, chain.name, rule));
        }
    }
    std::ranges::sort(lines);
    return lines;
}

// Only what both back ends have.
RuleTable comparable(RuleTable table) {
    table.backend = Backend::iptables_legacy;
    std::ranges::sort(table.chains, {}, &Chain::name);
    for (Chain& chain : table.chains) {
        chain.priority.reset();
        chain.type.clear();
        for (Rule& rule : chain.rules) {
            rule.handle.reset();
            rule.legacy.reset();
            std::ranges::replace(rule.conditions, "meta mark", "-m mark --mark 0x2000/0x2000");
        }
    }
    return table;
}

const RuleTable& table_named(const std::vector<RuleTable>& tables, std::string_view name) {
    const auto found = std::ranges::find(tables, name, &RuleTable::name);
    if (found == tables.end()) {
        throw std::runtime_error("no such table");
    }
    return *found;
}

std::vector<RuleTable> read_rules_of(const std::string& backend, Family family, const std::string& rules) {
    return in_fresh_netns([&] {
        restore(backend, family, rules);
        return unpacked(read_all());
    });
}

}  // namespace

TEST_CASE("iptables-legacy rules are read as iptables-save prints them") {
    const auto tables = read_rules_of("legacy", Family::ipv4, ipv4_rules);
    REQUIRE(tables.size() == 2);
    const RuleTable& nat = table_named(tables, "nat");
    CHECK(nat.backend == Backend::iptables_legacy);
    CHECK(nat.families == std::vector{Family::ipv4});
    CHECK(texts(nat) ==
          std::vector<std::string>{
              "-A A ! -i eth0 -m conntrack",
              "-A A ! -p icmp -j EMPTY",
              "-A A -i eth+ -m statistic -j RETURN",
              "-A A -p sctp -m sctp --dport 99 -j B",
              "-A A -p tcp -m comment --comment \"dnat name: \\\"cbr0\\\" id: \\\"4f\\\"\" -m multiport --dports "
              "80,443,8000:8100 -j B",
              "-A A -p tcp -m multiport ! --sports 80,443 -j ACCEPT",
              "-A A -p udp -m udp --sport 1:1023 -m udp ! --dport 53 -j RETURN",
              "-A B -d 192.168.0.2/32 -p tcp -m tcp --dport 443 -j DNAT --to-destination 10.244.1.7:8080",
              "-A B -m addrtype --dst-type 0x20 -j MARK",
              "-A B -p tcp -m tcp --dport 444 -j DNAT --to-destination 10.244.1.7-10.244.1.9:80-90",
              "-A B -p tcp -m tcp --dport 445 -j DNAT --to-destination 10.244.1.7",
              "-A B -p tcp -m tcp --sport 5 -m tcp --dport 446 -j REDIRECT --to-ports 15001",
              "-A OUTPUT ! -d 127.0.0.0/8 -o lo -m addrtype ! --src-type LOCAL -g B",
              "-A POSTROUTING -m mark --mark 0x2000/0x2000 -j MASQUERADE",
              "-A POSTROUTING -s 10.0.0.0/9 -j SNAT --to-source 192.0.2.1",
              "-A PREROUTING -m addrtype --dst-type LOCAL -j B",
              "-A PREROUTING -m comment --comment \"kubernetes service portals\" -j A",
          });
    REQUIRE(nat.find_chain("PREROUTING") != nullptr);
    CHECK(nat.find_chain("PREROUTING")->hook == "PREROUTING");
    CHECK(nat.find_chain("A")->hook == std::nullopt);
    CHECK(nat.find_chain("EMPTY")->rules.empty());
    CHECK(nat.find_chain("NONE") == nullptr);
    CHECK(texts(table_named(tables, "filter")) ==
          std::vector<std::string>{
              "-A INPUT -p tcp -j DROP",
              "-A OUTPUT -d 10.96.0.1/32 -p tcp -m comment --comment \"default/web:http has no endpoints\" -m tcp "
              "--dport 80 -j REJECT"});
}

TEST_CASE("both xtables back ends give the same model of the same rules") {
    for (const auto& [family, rules] : {std::pair{Family::ipv4, ipv4_rules}, std::pair{Family::ipv6, ipv6_rules}}) {
        const auto legacy = read_rules_of("legacy", family, rules);
        const auto nft = read_rules_of("nft", family, rules);
        REQUIRE(legacy.size() == nft.size());
        for (const RuleTable& table : legacy) {
            const RuleTable& other = table_named(nft, table.name);
            CHECK(other.backend == Backend::iptables_nft);
            CHECK(other.families == std::vector{family});
            CHECK(texts(comparable(other)) == texts(comparable(table)));
            for (const Chain& chain : table.chains) {
                const Chain* same = other.find_chain(chain.name);
                if (same == nullptr) {  // iptables-nft creates base chains as they are needed
                    CHECK(chain.rules.empty());
                    continue;
                }
                const auto left = comparable(table);
                const auto right = comparable(other);
                CHECK(right.find_chain(chain.name)->rules == left.find_chain(chain.name)->rules);
                CHECK(same->hook == chain.hook);
            }
        }
    }
}

TEST_CASE("reading an unused namespace leaves it unused") {
    struct Seen {
        std::string ipv4, ipv6, nft;
        bool operator==(const Seen&) const = default;
    };
    const auto look = [] {
        return Seen{contents_of("/proc/thread-self/net/ip_tables_names"),
                    contents_of("/proc/thread-self/net/ip6_tables_names"), output_of("nft list ruleset")};
    };
    const auto seen = in_fresh_netns([&] {
        const Seen before = look();
        const auto tables = read_all();
        return std::tuple(before, look(), tables.size());
    });
    CHECK(std::get<0>(seen) == Seen{});
    CHECK(std::get<1>(seen) == Seen{});
    CHECK(std::get<2>(seen) == 0);
}

TEST_CASE("reading rules of one table creates no other and changes no rule") {
    const auto look = [] {
        return contents_of("/proc/thread-self/net/ip_tables_names") + "\n" +
               contents_of("/proc/thread-self/net/ip6_tables_names") + "\n" + output_of("nft -a list ruleset 2>&1");
    };
    const auto seen = in_fresh_netns([&] {
        restore("legacy", Family::ipv4, "*filter\n-A INPUT -j ACCEPT\nCOMMIT\n");
        restore("nft", Family::ipv6, "*filter\n-A INPUT -p tcp -j ACCEPT\nCOMMIT\n");
        const auto before = look();
        static_cast<void>(read_all());
        return std::pair(before, look());
    });
    CHECK(seen.first.starts_with("filter\n\n\n"));
    CHECK(seen.second == seen.first);
}

TEST_CASE("tables that are no nat and no filter table are left alone") {
    const auto names = in_fresh_netns([] {
        restore("nft", Family::ipv4, "*mangle\n-A PREROUTING -j MARK --set-mark 1\nCOMMIT\n");
        feed("nft -f -",
             "table inet fw {\n chain in {\n type filter hook input priority 0;\n tcp dport 22 accept\n }\n}\n"
             "table bridge b {\n chain c {\n type filter hook input priority 0;\n accept\n }\n}\n");
        return read_all().size();
    });
    CHECK(names == 0);
}
