// SPDX-License-Identifier: GPL-2.0-or-later
// Services of kube-proxy in iptables mode, from rules in the shapes of its versions, written by the real tools.
#include <fmt/format.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>

#include "rules.hpp"
#include "service_line.hpp"

using namespace hptrace;

namespace {

NodeState interpret(const std::vector<RuleTable>& tables) {
    NodeState state;
    interpret_rules(tables, state);
    return state;
}

NodeState state_of(const std::string& rules, const std::string& backend = "nft", Family family = Family::ipv4) {
    return in_fresh_netns([&] {
        restore(backend, family, rules);
        return interpret(read_all());
    });
}

using Lines = std::vector<std::string>;

Lines lines(const NodeState& state) {
    Lines result;
    std::ranges::transform(state.services, std::back_inserter(result), service_line);
    return result;
}

const std::string portals =
    "-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n"
    "-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n";

std::string chains(std::initializer_list<std::string> names) {
    std::string text = "*nat\n";
    for (const auto& name : names) {
        text += ":" + name + " - [0:0]\n";
    }
    return text;
}

}  // namespace

TEST_CASE("Services of current iptables mode") {
    const std::string rules =
        chains({"KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-MARK-MASQ", "KUBE-SVC-A", "KUBE-EXT-A", "KUBE-FW-A",
                "KUBE-SVL-A", "KUBE-SEP-A", "KUBE-SEP-B"}) +
        portals +
        "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n"
        "-A KUBE-SERVICES -d 10.96.7.7/32 -p tcp -m comment --comment \"default/web:http cluster IP\" -m tcp --dport "
        "80 -j KUBE-SVC-A\n"
        "-A KUBE-SERVICES -d 192.0.2.10/32 -p tcp -m comment --comment \"default/web:http external IP\" -m tcp --dport "
        "80 -j KUBE-EXT-A\n"
        "-A KUBE-SERVICES -d 192.0.2.11/32 -p tcp -m comment --comment \"default/web:http loadbalancer IP\" -m tcp "
        "--dport 80 -j KUBE-FW-A\n"
        "-A KUBE-SERVICES ! -d 127.0.0.0/8 -m comment --comment \"kubernetes service nodeports; NOTE: this must be the "
        "last rule in this chain\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n"
        "-A KUBE-NODEPORTS -p tcp -m comment --comment \"default/web:http\" -m tcp --dport 30080 -j KUBE-EXT-A\n"
        "-A KUBE-SVC-A ! -s 10.244.0.0/16 -d 10.96.7.7/32 -p tcp -m comment --comment \"default/web:http cluster IP\" "
        "-m tcp --dport 80 -j KUBE-MARK-MASQ\n"
        "-A KUBE-SVC-A -m comment --comment \"default/web:http -> 10.244.1.5:8080\" -m recent --rcheck --seconds 10800 "
        "--reap --name KUBE-SEP-A --mask 255.255.255.255 --rsource -j KUBE-SEP-A\n"
        "-A KUBE-SVC-A -m comment --comment \"default/web:http -> 10.244.1.5:8080\" -m statistic --mode random "
        "--probability 0.50000000000 -j KUBE-SEP-A\n"
        "-A KUBE-SVC-A -m comment --comment \"default/web:http -> 10.244.2.6:8080\" -j KUBE-SEP-B\n"
        "-A KUBE-SVL-A -j KUBE-SEP-B\n"
        "-A KUBE-SEP-A -s 10.244.1.5/32 -m comment --comment \"default/web:http\" -j KUBE-MARK-MASQ\n"
        "-A KUBE-SEP-A -p tcp -m comment --comment \"default/web:http\" -m recent --set --name KUBE-SEP-A --mask "
        "255.255.255.255 --rsource -m tcp -j DNAT --to-destination 10.244.1.5:8080\n"
        "-A KUBE-SEP-B -p tcp -m comment --comment \"default/web:http\" -m tcp -j DNAT --to-destination "
        "10.244.2.6:8080\n"
        "-A KUBE-EXT-A -s 10.244.0.0/16 -m comment --comment \"pod traffic for default/web:http external "
        "destinations\" -j KUBE-SVC-A\n"
        "-A KUBE-EXT-A -m comment --comment \"masquerade LOCAL traffic for default/web:http external destinations\" -m "
        "addrtype --src-type LOCAL -j KUBE-MARK-MASQ\n"
        "-A KUBE-EXT-A -m comment --comment \"route LOCAL traffic for default/web:http external destinations\" -m "
        "addrtype --src-type LOCAL -j KUBE-SVC-A\n"
        "-A KUBE-EXT-A -j KUBE-SVL-A\n"
        "-A KUBE-FW-A -s 203.0.113.0/24 -m comment --comment \"default/web:http loadbalancer IP\" -j KUBE-EXT-A\n"
        "COMMIT\n*filter\n:KUBE-SERVICES - [0:0]\n:KUBE-EXTERNAL-SERVICES - [0:0]\n:KUBE-NODEPORTS - [0:0]\n"
        "-A KUBE-SERVICES -d 10.96.7.8/32 -p udp -m comment --comment \"kube-system/dns:dns has no endpoints\" -m udp "
        "--dport 53 -j REJECT\n"
        "-A KUBE-EXTERNAL-SERVICES -p tcp -m comment --comment \"default/none has no endpoints\" -m addrtype "
        "--dst-type LOCAL -m tcp --dport 30099 -j REJECT\n"
        "-A KUBE-EXTERNAL-SERVICES -d 192.0.2.11/32 -p tcp -m comment --comment \"default/web:http has no local "
        "endpoints\" -m tcp --dport 80 -j DROP\n"
        "-A KUBE-NODEPORTS -p tcp -m comment --comment \"default/web:http health check node port\" -m tcp --dport "
        "31000 -j ACCEPT\n"
        "COMMIT\n";
    for (const std::string backend : {"legacy", "nft"}) {
        const NodeState state = state_of(rules, backend);
        CHECK(lines(state) ==
              Lines{"ClusterIP 10.96.7.7:80/tcp default/web:http 10.244.1.5:8080 10.244.2.6:8080, persistent",
                    "ExternalIP 192.0.2.10:80/tcp default/web:http 10.244.1.5:8080 10.244.2.6:8080, persistent, local, "
                    "outside handled",
                    "LoadBalancer 192.0.2.11:80/tcp default/web:http 10.244.1.5:8080 10.244.2.6:8080, persistent, "
                    "local, outside handled, from 203.0.113.0/24",
                    "NodePort any but loopback:30080/tcp default/web:http 10.244.1.5:8080 10.244.2.6:8080, persistent, "
                    "local, outside handled",
                    "ClusterIP 10.96.7.8:53/udp kube-system/dns:dns",
                    "NodePort any but loopback:30099/tcp default/none:",
                    "HealthCheckNodePort any:31000/tcp default/web:http"});
        CHECK(state.proxy == ProxyMode::iptables);
        CHECK(state.unread_rules.empty());
        CHECK(state.hostports.empty());
        CHECK(state.services.at(0).backend == (backend == "nft" ? Backend::iptables_nft : Backend::iptables_legacy));
    }
}

TEST_CASE("Services of 1.14 to 1.21: inline masquerade marks, KUBE-XLB, names that end in a colon") {
    const NodeState state = state_of(
        chains({"KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-MARK-MASQ", "KUBE-MARK-DROP", "KUBE-SVC-A", "KUBE-FW-A",
                "KUBE-XLB-A", "KUBE-SEP-A"}) +
        portals +
        "-A KUBE-SERVICES ! -s 10.244.0.0/16 -d 10.96.7.7/32 -p tcp -m comment --comment \"default/web: cluster IP\" "
        "-m tcp --dport 80 -j KUBE-MARK-MASQ\n"
        "-A KUBE-SERVICES -d 10.96.7.7/32 -p tcp -m comment --comment \"default/web: cluster IP\" -m tcp --dport 80 -j "
        "KUBE-SVC-A\n"
        "-A KUBE-SERVICES -d 192.0.2.10/32 -p tcp -m comment --comment \"default/web: external IP\" -m tcp --dport 80 "
        "-j KUBE-MARK-MASQ\n"
        "-A KUBE-SERVICES -d 192.0.2.10/32 -p tcp -m comment --comment \"default/web: external IP\" -m tcp --dport 80 "
        "-m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL -j KUBE-SVC-A\n"
        "-A KUBE-SERVICES -d 192.0.2.10/32 -p tcp -m comment --comment \"default/web: external IP\" -m tcp --dport 80 "
        "-m addrtype --dst-type LOCAL -j KUBE-SVC-A\n"
        "-A KUBE-SERVICES -d 192.0.2.11/32 -p tcp -m comment --comment \"default/web: loadbalancer IP\" -m tcp --dport "
        "80 -j KUBE-FW-A\n"
        "-A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports\" -m addrtype --dst-type LOCAL -j "
        "KUBE-NODEPORTS\n"
        "-A KUBE-NODEPORTS -s 127.0.0.0/8 -p tcp -m comment --comment \"default/web:\" -m tcp --dport 30080 -j "
        "KUBE-MARK-MASQ\n"
        "-A KUBE-NODEPORTS -p tcp -m comment --comment \"default/web:\" -m tcp --dport 30080 -j KUBE-XLB-A\n"
        "-A KUBE-FW-A -m comment --comment \"default/web: loadbalancer IP\" -j KUBE-XLB-A\n"
        "-A KUBE-FW-A -m comment --comment \"default/web: loadbalancer IP\" -j KUBE-MARK-DROP\n"
        "-A KUBE-XLB-A -s 10.244.0.0/16 -m comment --comment \"Redirect pods trying to reach external loadbalancer VIP "
        "to clusterIP\" -j KUBE-SVC-A\n"
        "-A KUBE-SVC-A -m comment --comment \"default/web:\" -j KUBE-SEP-A\n"
        "-A KUBE-SEP-A -p tcp -m comment --comment \"default/web:\" -m tcp -j DNAT --to-destination 10.244.1.5:8080\n"
        "COMMIT\n");
    CHECK(lines(state) == Lines{"ClusterIP 10.96.7.7:80/tcp default/web: 10.244.1.5:8080",
                                "ExternalIP 192.0.2.10:80/tcp default/web: 10.244.1.5:8080",
                                "LoadBalancer 192.0.2.11:80/tcp default/web: 10.244.1.5:8080, local, outside handled",
                                "NodePort any:30080/tcp default/web: 10.244.1.5:8080, local"});
    CHECK(state.unread_rules.empty());
}

TEST_CASE("node ports of chosen addresses only, and IPv6") {
    const NodeState state = state_of(
        chains({"KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXT-A", "KUBE-SEP-A"}) + portals +
            "-A KUBE-SERVICES -d 2001:db8::1/128 -j KUBE-NODEPORTS\n"
            "-A KUBE-SERVICES -d 2001:db8::2/128 -j KUBE-NODEPORTS\n"
            "-A KUBE-NODEPORTS -p udp -m comment --comment \"default/web\" -m udp --dport 30080 -j KUBE-EXT-A\n"
            "-A KUBE-EXT-A -j KUBE-SEP-A\n"
            "-A KUBE-SEP-A -p udp -m udp -j DNAT --to-destination [2001:db8::9]:53\nCOMMIT\n",
        "nft", Family::ipv6);
    CHECK(lines(state) == Lines{"NodePort 2001:db8::1:30080/udp default/web: [2001:db8::9]:53",
                                "NodePort 2001:db8::2:30080/udp default/web: [2001:db8::9]:53"});
    CHECK(state.services.at(0).family == Family::ipv6);
}

TEST_CASE("chains of a kube-proxy that is gone are no Services") {
    const std::string rules =
        "-A KUBE-SERVICES -d 10.96.7.7/32 -p tcp -m comment --comment \"default/web cluster IP\" -m tcp --dport 80 -j "
        "KUBE-SVC-A\n"
        "-A KUBE-SVC-A -p tcp -j DNAT --to-destination 10.244.1.5:8080\nCOMMIT\n";
    CHECK(state_of(chains({"KUBE-SERVICES", "KUBE-SVC-A"}) + rules).services.empty());
    CHECK(state_of(chains({"KUBE-SERVICES", "KUBE-SVC-A"}) + portals + rules).services.size() == 1);
}

TEST_CASE("a Service that two back ends write may lead to what either says, and each source is read by itself") {
    const auto rules = [](const std::string& endpoint, const std::string& unserved) {
        return "*filter\n:KUBE-SERVICES - [0:0]\n-A INPUT -j KUBE-SERVICES\n-A KUBE-SERVICES -d 10.96.0.99/32 -p tcp "
               "-m comment --comment \"default/" +
               unserved + " has no endpoints\" -m tcp --dport 80 -j REJECT\nCOMMIT\n" +
               chains({"KUBE-SERVICES", "KUBE-SVC-A", "KUBE-SEP-A"}) + portals +
               "-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment \"default/mysql-a cluster IP\" -m tcp "
               "--dport 3306 -j KUBE-SVC-A\n-A KUBE-SVC-A -j KUBE-SEP-A\n-A KUBE-SEP-A -p tcp -m tcp -j DNAT "
               "--to-destination " +
               endpoint + "\nCOMMIT\n";
    };
    const auto both = in_fresh_netns([&] {
        restore("legacy", Family::ipv4, rules("10.224.0.9:3306", "gone"));
        restore("nft", Family::ipv4, rules("10.224.0.1:3306", "late"));
        return interpret(read_all());
    });
    CHECK(lines(both) == Lines{"ClusterIP 10.96.0.10:3306/tcp default/mysql-a: 10.224.0.1:3306 10.224.0.9:3306",
                               "ClusterIP 10.96.0.99:80/tcp default/gone:"});
    CHECK(both.proxy == ProxyMode::iptables);
    CHECK(both.services.at(0).backend == Backend::iptables_legacy);

    // What is left of another iptables' filter table says nothing of this kube-proxy's Services.
    const auto left_over = in_fresh_netns([&] {
        restore(
            "legacy", Family::ipv4,
            "*filter\n:KUBE-SERVICES - [0:0]\n-A INPUT -j KUBE-SERVICES\n-A KUBE-SERVICES -d 10.96.0.98/32 -p tcp -m "
            "comment --comment \"default/old has no endpoints\" -m tcp --dport 80 -j REJECT\nCOMMIT\n");
        restore("nft", Family::ipv4, rules("10.224.0.1:3306", "late"));
        return interpret(read_all());
    });
    CHECK(lines(left_over) == Lines{"ClusterIP 10.96.0.10:3306/tcp default/mysql-a: 10.224.0.1:3306",
                                    "ClusterIP 10.96.0.99:80/tcp default/late:"});
}

TEST_CASE("ipvs mode is recognised by its sets, and its ACCEPT only if it is that") {
    RuleTable nat;
    nat.families = {Family::ipv4};
    nat.name = "nat";
    Chain prerouting{.name = "PREROUTING", .hook = "PREROUTING", .priority = {}, .type = {}, .rules = {}};
    prerouting.rules.emplace_back().target = {TargetKind::jump, "KUBE-SERVICES", {}, {}};
    Chain services{.name = "KUBE-SERVICES", .hook = {}, .priority = {}, .type = {}, .rules = {}};
    Rule& accept = services.rules.emplace_back();
    accept.sets.push_back({{"KUBE-CLUSTER-IP", {false, false}}, false});
    accept.target = {TargetKind::accept, "ACCEPT", {}, {}};
    nat.chains = {prerouting, services};

    const auto accepts = [](const RuleTable& table) {
        const NodeState state = interpret({table});
        CHECK(state.proxy == ProxyMode::ipvs);
        return state.nat_tables.at(0).ipvs_accept;
    };
    CHECK(accepts(nat));
    Rule& rule = nat.chains[1].rules[0];
    rule.sets[0].value.set = "KUBE-6-CLUSTER-IP";
    CHECK(accepts(nat));
    rule.sets[0].value.source = {true, false};
    CHECK_FALSE(accepts(nat));
    rule.sets[0] = {{"KUBE-CLUSTER-IP", {false, false}}, true};
    CHECK_FALSE(accepts(nat));
    rule.sets[0] = {{"KUBE-LOAD-BALANCER", {false, false}}, false};
    CHECK_FALSE(accepts(nat));
    rule.sets[0].value.set = "KUBE-CLUSTER-IP";
    rule.target = {TargetKind::jump, "KUBE-MARK-MASQ", {}, {}};
    CHECK_FALSE(accepts(nat));
}

TEST_CASE("a Service rule that is not understood is reported, not skipped") {
    RuleTable nat;
    nat.families = {Family::ipv4};
    nat.name = "nat";
    nat.chains.resize(3);
    nat.chains[0].name = "PREROUTING";
    nat.chains[0].hook = "PREROUTING";
    nat.chains[0].rules.emplace_back().target = {TargetKind::jump, "KUBE-SERVICES", {}, {}};
    nat.chains[1].name = "KUBE-SERVICES";
    Rule& rule = nat.chains[1].rules.emplace_back();
    rule.destinations.push_back({*parse_prefix("10.96.7.7/32"), false});
    rule.l4proto = {6, false};
    rule.destination_ports.push_back({{{80, 80}}, false});
    rule.unread.emplace_back("brandnew");
    rule.target = {TargetKind::jump, "KUBE-SVC-A", {}, {}};
    nat.chains[2].name = "KUBE-SVC-A";
    nat.chains[2].rules.emplace_back().target = {TargetKind::jump, "KUBE-SVC-A", {}, {}};  // a cycle ends
    const NodeState state = interpret({nat});
    CHECK(state.services.empty());
    REQUIRE(state.unread_rules.size() == 1);
    CHECK(state.unread_rules[0].text ==
          "-A KUBE-SERVICES -d 10.96.7.7/32 -p tcp -m tcp --dport 80 [brandnew] -j KUBE-SVC-A");
    CHECK(state.unread_rules[0].protocol == Protocol::tcp);  // what was understood of it
    CHECK(state.unread_rules[0].ports == std::vector<PortRange>{{80, 80}});
    auto& unread = nat.chains[1].rules[0];
    unread.destination_ports[0].inverted = true;
    unread.l4proto->inverted = true;
    const auto anything = interpret({nat}).unread_rules.at(0);
    CHECK_FALSE(anything.protocol);
    CHECK(anything.ports.empty());
    unread.destination_ports[0].inverted = unread.l4proto->inverted = false;
    unread.unread.clear();
    CHECK(interpret({nat}).services.size() == 1);
}

TEST_CASE("five thousand Services are read") {
    std::string text = "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n";
    std::string rules = portals;
    for (int i = 0; i < 5000; ++i) {
        text += fmt::format(":KUBE-SVC-{0} - [0:0]\n:KUBE-SEP-{0}A - [0:0]\n:KUBE-SEP-{0}B - [0:0]\n", i);
        rules += fmt::format(
            "-A KUBE-SERVICES -d 10.{1}.{2}.7/32 -p tcp -m comment --comment \"default/web{0}:http cluster IP\" -m tcp "
            "--dport 80 -j KUBE-SVC-{0}\n"
            "-A KUBE-SVC-{0} ! -s 10.244.0.0/16 -d 10.{1}.{2}.7/32 -p tcp -m comment --comment \"default/web{0}:http "
            "cluster IP\" -m tcp --dport 80 -j KUBE-MARK-MASQ\n"
            "-A KUBE-SVC-{0} -m statistic --mode random --probability 0.5 -j KUBE-SEP-{0}A\n"
            "-A KUBE-SVC-{0} -j KUBE-SEP-{0}B\n"
            "-A KUBE-SEP-{0}A -s 10.244.1.5/32 -j KUBE-MARK-MASQ\n"
            "-A KUBE-SEP-{0}A -p tcp -m tcp -j DNAT --to-destination 10.244.1.5:8080\n"
            "-A KUBE-SEP-{0}B -s 10.244.1.6/32 -j KUBE-MARK-MASQ\n"
            "-A KUBE-SEP-{0}B -p tcp -m tcp -j DNAT --to-destination 10.244.1.6:8080\n",
            i, i / 250, i % 250);
    }
    for (const std::string backend : {"legacy", "nft"}) {
        const NodeState state = state_of(text + rules + "COMMIT\n", backend);
        CHECK(state.services.size() == 5000);
        CHECK(
            std::ranges::all_of(state.services, [](const Service& service) { return service.endpoints.size() == 2; }));
    }
}
