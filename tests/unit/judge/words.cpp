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

TEST_CASE("advice for a rule that is left over is the command that takes it away, if that is certain") {
    auto state = ipvs_node(Backend::iptables_nft);
    const auto made = connection("10.96.0.10:3306", "10.224.0.222:3306");
    const auto emptied = "iptables-nft -t nat -F CNI-DN-bd8e9ce301851b7745b41";
    state.sandboxes.erase(state.sandboxes.begin());
    const auto perhaps = advice_for(named(made, state)).fix;
    CHECK(perhaps.find(emptied) == std::string::npos);
    CHECK(perhaps.find("crictl pods --id bbbb") != std::string::npos);
    CHECK(advice_for(LeakedRule{state.hostports[0], LeftOver::perhaps}).find(" -F ") == std::string::npos);
    state.gone_sandboxes = {{mysql_b_id, 0}};
    state.boot_ns = 2 * longest_set_up_ns;
    CHECK(advice_for(named(made, state)).fix.find(emptied) != std::string::npos);
    CHECK(advice_for(LeakedRule{state.hostports[0], LeftOver::yes}) == std::string("remove it: ") + emptied);
}

TEST_CASE("the command removes just the rule") {
    using Text = std::optional<std::string>;
    auto rule = hostport(Backend::iptables_legacy);
    rule.family = Family::ipv6;
    CHECK(removal_command(rule) == Text("ip6tables-legacy -t nat -F CNI-DN-bd8e9ce301851b7745b41"));
    rule.chain = "DOCKER";  // shared: only this rule may go
    rule.text = "-A DOCKER -p tcp -m tcp --dport 80 -j DNAT --to-destination [fd00::2]:80";
    CHECK(removal_command(rule) ==
          Text("ip6tables-legacy -t nat -D DOCKER -p tcp -m tcp --dport 80 -j DNAT --to-destination '[fd00::2]:80'"));
    rule.text =
        R"x(-A DOCKER ! -i docker0 -m comment --comment "it's \"$(reboot)\"" -j DNAT --to-destination 10.0.0.1:80)x";
    const std::string comment = R"x('it'\''s "$(reboot)"')x";
    CHECK(removal_command(rule) == Text("ip6tables-legacy -t nat -D DOCKER '!' -i docker0 -m comment --comment " +
                                        comment + " -j DNAT --to-destination 10.0.0.1:80"));
    rule.backend = Backend::nftables;
    rule.family = Family::ipv4;
    rule.table = "cni_hostport";
    rule.chain = "hostports";
    rule.handle = 12;
    CHECK(removal_command(rule) == Text("nft delete rule ip cni_hostport hostports handle 12"));
    rule.table = "crio-hostports";  // the rule is that of all HostPorts
    rule.map = "hostports";
    CHECK(removal_command(rule) == Text("nft delete element ip crio-hostports hostports '{ tcp . 3306 }'"));
    rule.host_ip = *parse_prefix("192.168.0.2");
    rule.map = "hostipports";
    CHECK(removal_command(rule) ==
          Text("nft delete element ip crio-hostports hostipports '{ 192.168.0.2 . tcp . 3306 }'"));
}

TEST_CASE("a name from a rule is never a command of its own") {
    using Text = std::optional<std::string>;
    auto rule = hostport(Backend::iptables_nft);
    rule.chain = "CNI-DN-$(reboot)";
    CHECK(removal_command(rule) == Text("iptables-nft -t nat -F 'CNI-DN-$(reboot)'"));
    rule.chain = "CNI-DN-'`reboot`\n";
    CHECK(removal_command(rule) == Text("iptables-nft -t nat -F $'CNI-DN-\\'`reboot`\\012'"));
    rule.chain = "-X";  // an option
    rule.text = "-A -X -j DNAT --to-destination 10.0.0.1";
    CHECK_FALSE(removal_command(rule));
    rule.chain = "DOCKER";
    rule.text = "-A DOCKER --comment \"not closed";
    CHECK_FALSE(removal_command(rule));
    rule.backend = Backend::nftables;  // nft puts its arguments together and reads them as its own language
    rule.table = "nat; flush ruleset";
    rule.handle = 1;
    CHECK_FALSE(removal_command(rule));
    rule.table = "nat";
    rule.chain = "a; flush ruleset";
    CHECK_FALSE(removal_command(rule));
    rule.chain = "hostports";
    rule.map = "m { } ; flush ruleset";
    CHECK_FALSE(removal_command(rule));
    CHECK(advice_for(LeakedRule{rule, LeftOver::yes}).find("flush") == std::string::npos);

    auto perhaps = hostport(Backend::iptables_nft);
    perhaps.container_id = "$(reboot)";
    CHECK(advice_for(LeakedRule{perhaps, LeftOver::perhaps}).find("--id '$(reboot)'") != std::string::npos);
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
