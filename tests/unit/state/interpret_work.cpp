// SPDX-License-Identifier: GPL-2.0-or-later
// Rules that lead to more than anyone can follow: it ends soon, and what was not followed is said.
#include <fmt/format.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <ctime>

#include "rules.hpp"
#include "state/interpret.hpp"
#include "state/iptables_save.hpp"

using namespace hptrace;

namespace {

// Of a nat table with these chains and rules.
NodeState interpreted(const std::vector<std::string>& chains, const std::string& rules) {
    std::string text = "*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:CNI-HOSTPORT-DNAT - [0:0]\n";
    for (const auto& chain : chains) {
        text += fmt::format(":{} - [0:0]\n", chain);
    }
    text += "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n" + rules + "COMMIT\n";
    NodeState state;
    interpret_rules(value_of(parse_iptables_save(text, Backend::iptables_nft, Family::ipv4)), state);
    return state;
}

// `width` jumps from each chain to the next, each under another condition: width^5 ways to one DNAT.
NodeState forks(int width, const std::string& condition) {
    std::string rules = "-A CNI-HOSTPORT-DNAT -j F0\n";
    for (int chain = 0; chain < 5; ++chain) {
        for (int i = 0; i < width; ++i) {
            rules += fmt::format("-A F{} {} 9.{}.{}.0/24 -j F{}\n", chain, condition, chain, i, chain + 1);
        }
    }
    rules += "-A F5 -p tcp -m tcp --dport 3306 -j DNAT --to-destination 10.224.0.222:3306\n";
    return interpreted({"F0", "F1", "F2", "F3", "F4", "F5"}, rules);
}

bool is_said(const NodeState& state, std::string_view why) {
    return std::ranges::any_of(state.unread_rules,
                               [why](const UnreadRule& rule) { return rule.text.find(why) != std::string::npos; });
}

double cpu_seconds() {
    return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

}  // namespace

TEST_CASE("chains that fork are followed so far, and what is not is said") {
    for (const std::string condition : {"! -d", "-d", "-s", "! -s"}) {
        INFO(condition);
        const double begin = cpu_seconds();
        for (const int width : {9, 40}) {
            const auto state = forks(width, condition);
            if (condition == "-d") {  // of destinations that exclude each other no packet gets there
                CHECK(state.hostports.empty());
                continue;
            }
            REQUIRE(!state.hostports.empty());
            CHECK(state.hostports.size() <= 1000);
            CHECK(state.hostports.front().target.port == 3306);
            CHECK((width == 9 || is_said(state, "more ways than are followed")));
        }
        CHECK(cpu_seconds() - begin < 60);  // minutes to for ever without a bound; some tenths of a second here
    }
}

TEST_CASE("ways that fork as producers' do are all followed") {
    const auto state = forks(2, "! -d");  // 32
    CHECK(state.unread_rules.empty());
    CHECK(state.hostports.size() == 32);
    CHECK(state.hostports.front().not_destinations.size() == 5);
}

TEST_CASE("as many rules as there are: all of them") {
    std::string rules;
    for (int i = 0; i < 3000; ++i) {
        rules += fmt::format("-A PREROUTING -d 9.9.{}.{}/32 -j RETURN\n", i / 250, i % 250);
    }
    std::vector<std::string> chains;
    for (int i = 1; i <= 3000; ++i) {
        chains.push_back(fmt::format("CNI-DN-{}", i));
        rules += fmt::format("-A CNI-HOSTPORT-DNAT -p tcp -m multiport --dports {} -j CNI-DN-{}\n", i, i);
        rules += fmt::format("-A CNI-DN-{} -p tcp -m tcp --dport {} -j DNAT --to-destination 10.0.0.1:80\n", i, i);
    }
    const auto state = interpreted(chains, rules);
    CHECK(state.hostports.size() == 3000);
    CHECK(state.unread_rules.empty());
}

TEST_CASE("chains too deep to follow are said to be") {
    for (const int depth : {20, 31, 32, 33, 40, 200}) {
        INFO(depth);
        std::string rules = "-A CNI-HOSTPORT-DNAT -j G0\n";
        std::vector<std::string> chains;
        for (int i = 0; i < depth; ++i) {
            chains.push_back(fmt::format("G{}", i));
            rules += i + 1 < depth
                         ? fmt::format("-A G{} -g G{}\n", i, i + 1)
                         : fmt::format("-A G{} -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.1\n", i);
        }
        const auto state = interpreted(chains, rules);
        CHECK(state.hostports.size() + state.unread_rules.size() == 1);
        CHECK((state.hostports.empty() == is_said(state, "more chains one behind the other than are followed")));
    }
}

TEST_CASE("endpoints without end are followed so far, and what is not is said") {
    std::string rules =
        "-A PREROUTING -j KUBE-SERVICES\n-A KUBE-SERVICES -d 172.0.0.1/32 -p tcp -m comment --comment \"a/b cluster "
        "IP\" "
        "-m tcp --dport 80 -j KUBE-SVC-A\n";
    for (int i = 0; i < 6000; ++i) {
        rules += "-A KUBE-SVC-A -j KUBE-SVC-B\n";
        rules += fmt::format("-A KUBE-SVC-B -p tcp -j DNAT --to-destination 12.0.{}.{}:80\n", i / 250, i % 250);
    }
    const auto state = interpreted({"KUBE-SERVICES", "KUBE-SVC-A", "KUBE-SVC-B"}, rules);
    REQUIRE(state.services.size() == 1);
    CHECK(is_said(state, "more endpoints or source ranges behind it than are followed"));
}

TEST_CASE("as many addresses for node ports as node ports: not all of their pairs are Services") {
    std::string rules = "-A PREROUTING -j KUBE-SERVICES\n";
    for (int i = 0; i < 6000; ++i) {
        rules += fmt::format("-A KUBE-SERVICES -d 9.0.{}.{}/32 -j KUBE-NODEPORTS\n", i / 250, i % 250);
        rules +=
            fmt::format("-A KUBE-NODEPORTS -p tcp -m comment --comment a/b -m tcp --dport {} -j KUBE-SVC-A\n", i + 1);
    }
    const auto state = interpreted({"KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-SVC-A"}, rules);
    CHECK(state.services.size() > 12'000);
    CHECK(state.services.size() < 200'000);
    CHECK(is_said(state, "more Services than are followed"));
}

TEST_CASE("as many source ranges as Services that share them: not all are copied") {
    std::string rules = "-A PREROUTING -j KUBE-SERVICES\n";
    for (int i = 0; i < 6000; ++i) {
        rules +=
            fmt::format("-A KUBE-SERVICES -d 9.0.{}.{}/32 -p tcp -m tcp --dport 80 -j KUBE-FW-A\n", i / 250, i % 250);
        rules += fmt::format("-A KUBE-FW-A -s 8.0.{}.{}/32 -j KUBE-SVC-A\n", i / 250, i % 250);
    }
    const auto state = interpreted({"KUBE-SERVICES", "KUBE-FW-A", "KUBE-SVC-A"}, rules);
    std::size_t ranges = 0;
    for (const auto& service : state.services) {
        ranges += service.allowed_sources.size();
    }
    CHECK(state.services.front().allowed_sources.size() == 6000);
    CHECK(ranges < 9'000'000);
    CHECK(is_said(state, "more endpoints or source ranges behind it than are followed"));
}
