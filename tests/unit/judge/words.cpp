// SPDX-License-Identifier: GPL-2.0-or-later
#include "judge/words.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>

#include "names/names.hpp"
#include "node.hpp"

using namespace hptrace;
using namespace hptrace::test;

namespace {

Finding named(const Connection& made, NodeState state) {
    state.index();
    auto finding = judge(made, state);
    add_names(finding, state);
    return finding;
}

}  // namespace

TEST_CASE("the incident in words") {
    const auto finding = named(connection("10.96.0.10:3306", "10.224.0.222:3306"), ipvs_node(Backend::iptables_nft));
    CHECK(finding.reason ==
          "10.96.0.10 is local (kube-ipvs0); kube-proxy's ACCEPT is in iptables-legacy and does not stop iptables-nft");
    const auto advice = advice_for(finding);
    CHECK(advice.fix ==
          "remove hostPort 3306 from the workload owning default/mysql-b-0, then reconnect clients: open connections "
          "stay");
    CHECK(advice.text().starts_with(advice.fix + "; or "));
}

TEST_CASE("every reason has words and, for a live pod, advice of its own") {
    auto state = ipvs_node(Backend::iptables_nft);
    state.index();
    Finding finding = judge(connection("10.96.0.10:3306", "10.224.0.222:3306"), state);
    std::vector<std::string> words;
    for (const auto code :
         {ReasonCode::other_backend, ReasonCode::jump_before_kube_services, ReasonCode::nodeport_ipvs,
          ReasonCode::no_local_check, ReasonCode::no_accept, ReasonCode::no_endpoints, ReasonCode::etp_local,
          ReasonCode::lb_source_ranges, ReasonCode::hook_order, ReasonCode::not_served_here}) {
        INFO(to_string(code));
        const auto text = reason_text(code, *finding.service, *finding.rule, ip("10.96.0.10"), state);
        CHECK(text.find("10.96.0.10") != std::string::npos);
        CHECK(text.find('\n') == std::string::npos);
        CHECK(std::ranges::find(words, text) == words.end());
        words.push_back(text);
        finding.reason_code = code;
        CHECK_FALSE(advice_for(finding).fix.empty());
    }
}

TEST_CASE("advice for UDP says how to end flows that stay") {
    auto state = ipvs_node(Backend::iptables_nft);
    state.services[0].protocol = Protocol::udp;
    state.hostports[0].protocol = Protocol::udp;
    auto made = connection("10.96.0.10:3306", "10.224.0.222:3306");
    made.protocol = Protocol::udp;
    CHECK(advice_for(named(made, state)).fix.find("conntrack -D -p udp --orig-dst 10.96.0.10 --orig-port-dst 3306") !=
          std::string::npos);
    state.hostports.clear();
    made.existing = true;
    const auto stale = named(made, state);
    CHECK(stale.verdict == Verdict::stale);
    CHECK(advice_for(stale).fix.find("conntrack -D -p udp --orig-src 10.224.0.223 --orig-dst 10.96.0.10") !=
          std::string::npos);
}

TEST_CASE("advice for a leaked rule is the command that takes it away") {
    auto state = ipvs_node(Backend::iptables_nft);
    state.sandboxes.clear();
    const auto advice = advice_for(named(connection("10.96.0.10:3306", "10.224.0.222:3306"), state));
    CHECK(advice.fix.find("iptables-nft -t nat -F CNI-DN-bd8e9ce301851b7745b41") != std::string::npos);

    auto rule = hostport(Backend::iptables_legacy);
    rule.family = Family::ipv6;
    CHECK(removal_command(rule) == "ip6tables-legacy -t nat -F CNI-DN-bd8e9ce301851b7745b41");
    rule.chain = "DOCKER";  // shared: only this rule may go
    rule.text = "-A DOCKER -p tcp -m tcp --dport 80 -j DNAT --to-destination [fd00::2]:80";
    CHECK(removal_command(rule) ==
          "ip6tables-legacy -t nat -D DOCKER -p tcp -m tcp --dport 80 -j DNAT --to-destination [fd00::2]:80");
    rule.backend = Backend::nftables;
    rule.family = Family::ipv4;
    rule.table = "cni_hostport";
    rule.chain = "hostports";
    rule.handle = 12;
    CHECK(removal_command(rule) == "nft delete rule ip cni_hostport hostports handle 12");
    rule.table = "crio-hostports";  // the rule is that of all HostPorts
    rule.map = "hostports";
    CHECK(removal_command(rule) == "nft delete element ip crio-hostports hostports { tcp . 3306 }");
    rule.host_ip = *parse_prefix("192.168.0.2");
    rule.map = "hostipports";
    CHECK(removal_command(rule) == "nft delete element ip crio-hostports hostipports { 192.168.0.2 . tcp . 3306 }");
}

TEST_CASE("an owner is named as well as it is known") {
    auto rule = hostport(Backend::iptables_nft);
    CHECK(owner_text(rule, Pod{"default", "mysql-b-0"}) == "default/mysql-b-0");
    CHECK(owner_text(rule, Pod{"default", "mysql-b-0", true}) == "default/mysql-b-0 (by its own account)");
    CHECK(owner_text(rule, std::nullopt) == "sandbox bbbbbbbbbbbb");
    rule.container_id.clear();
    CHECK(owner_text(rule, std::nullopt) == "10.224.0.222");
}

TEST_CASE("names of verdicts are read back") {
    for (std::size_t i = 0; i < verdict_count; ++i) {
        const auto verdict = static_cast<Verdict>(i);
        CHECK(parse_verdict(to_string(verdict)) == verdict);
    }
    CHECK_FALSE(parse_verdict("HIJACKED"));
    CHECK_FALSE(parse_verdict(""));
}
