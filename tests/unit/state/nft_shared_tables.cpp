// SPDX-License-Identifier: GPL-2.0-or-later
// Base chains of iptables-nft and of others in one table: told apart by both readers, in the same way.
#include <fmt/format.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <functional>
#include <string>
#include <vector>

#include "same_rules.hpp"
#include "state/nft_json.hpp"

using namespace hptrace;

namespace {

// Whose the tables are, and how many rules are in which chains: nft does not print what iptables-nft's rules say.
std::vector<std::string> shape(const std::vector<RuleTable>& tables) {
    std::vector<std::string> lines;
    for (const auto& table : comparable(tables)) {
        for (const auto& chain : table.chains) {
            lines.push_back(fmt::format("{} {} {} {}: {}", to_string(table.backend), table.families.size(), table.name,
                                        chain.name, chain.rules.size()));
        }
    }
    return lines;
}

std::vector<RuleTable> read_both(const std::function<void()>& write) {
    auto [native, printed] = in_fresh_netns([&] {
        write();
        return std::pair(value_of(read_nf_tables()), output_of("nft -j list ruleset"));
    });
    CHECK(shape(value_of(parse_nft_json(printed))) == shape(native));
    return native;
}

const RuleTable* find(const std::vector<RuleTable>& tables, Backend backend, const std::string& name) {
    const auto found = std::ranges::find_if(
        tables, [&](const RuleTable& table) { return table.backend == backend && table.name == name; });
    return found == tables.end() ? nullptr : &*found;
}

const std::string rules = R"(*nat
:MINE - [0:0]
:SHARED - [0:0]
:NOBODYS - [0:0]
-A PREROUTING -p tcp -m tcp --dport 80 -j MINE
-A MINE -p tcp -m tcp --dport 80 -j SHARED
-A SHARED -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.1:80
-A NOBODYS -p tcp -m tcp --dport 81 -j ACCEPT
COMMIT
)";

}  // namespace

TEST_CASE("iptables-nft's chains stay its own in a table that others use too", "[dump]") {
    struct Other {
        std::string name, hook, priority;
    };
    for (const auto& [name, hook, priority] :
         {Other{"postrouting", "postrouting", "srcnat"}, Other{"prerouting", "prerouting", "dstnat"},
          Other{"output", "output", "-100"}, Other{"anything", "prerouting", "-101"}, Other{"FORWARD", "input", "7"}}) {
        for (const auto family : {Family::ipv4, Family::ipv6}) {
            for (const bool first : {true, false}) {
                INFO(name << (first ? " first" : " last"));
                const std::string of = family == Family::ipv4 ? "ip" : "ip6";
                const auto tables = read_both([&] {
                    const auto write_other = [&] {
                        feed("nft -f -", "table " + of + " nat {\n chain helper {\n tcp dport 9 accept\n }\n chain " +
                                             name + " {\n type nat hook " + hook + " priority " + priority +
                                             ";\n jump helper\n }\n}\n");
                    };
                    if (first) {
                        write_other();
                    }
                    auto text = rules;
                    if (family == Family::ipv6) {
                        text.replace(text.find("10.0.0.1:80"), 11, "[fd00::1]:80");
                    }
                    feed((family == Family::ipv4 ? "iptables" : "ip6tables") + std::string("-nft-restore --noflush"),
                         text);
                    if (!first) {
                        write_other();
                    }
                });
                const RuleTable* ours = find(tables, Backend::iptables_nft, "nat");
                const RuleTable* theirs = find(tables, Backend::nftables, "nat");
                REQUIRE(ours != nullptr);
                REQUIRE(theirs != nullptr);
                for (const auto* chain : {"PREROUTING", "MINE", "SHARED", "NOBODYS"}) {
                    CHECK(ours->find_chain(chain) != nullptr);
                    CHECK(theirs->find_chain(chain) == nullptr);
                }
                CHECK(ours->find_chain(name) == nullptr);
                CHECK(ours->find_chain("helper") == nullptr);
                CHECK(theirs->find_chain(name) != nullptr);
                CHECK(theirs->find_chain("helper")->rules.size() == 1);
            }
        }
    }
}

TEST_CASE("a chain that both lead to is in both, and other tables are told apart as well", "[dump]") {
    const auto tables = read_both([] {
        restore("nft", Family::ipv4, rules);
        run("nft 'add chain ip nat mine { type nat hook prerouting priority -101; }; add rule ip nat mine jump "
            "SHARED'");
        restore("nft", Family::ipv4, "*mangle\n-A PREROUTING -j ACCEPT\nCOMMIT\n*filter\n-A INPUT -j ACCEPT\nCOMMIT\n");
        run("nft 'add chain ip mangle pre { type nat hook prerouting priority -102; }'");
        run("nft 'add chain ip filter in { type filter hook input priority -1; }'");
    });
    for (const auto backend : {Backend::iptables_nft, Backend::nftables}) {
        for (const auto* name : {"nat", "mangle", "filter"}) {
            INFO(name);
            CHECK(find(tables, backend, name) != nullptr);
        }
        CHECK(find(tables, backend, "nat")->find_chain("SHARED")->rules.size() == 1);
    }
    CHECK(find(tables, Backend::nftables, "nat")->find_chain("MINE") == nullptr);
}

TEST_CASE("a table of iptables' name with none of its chains is not iptables'", "[dump]") {
    const auto tables = read_both([] {
        run("nft 'add table ip nat; add chain ip nat PREROUTING { type nat hook prerouting priority -90; }; add chain "
            "ip "
            "nat helper'");
        run("nft 'add table inet nat; add chain inet nat PREROUTING { type nat hook prerouting priority -100; }'");
    });
    REQUIRE(tables.size() == 2);
    CHECK(tables[0].backend == Backend::nftables);
    CHECK(tables[1].backend == Backend::nftables);
}
