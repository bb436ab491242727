// SPDX-License-Identifier: GPL-2.0-or-later
// HostPort rules of every producer's shape, written by the real tools: who takes which port, for whom, in which order.
#include <unistd.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <filesystem>

#include "rules.hpp"
#include "state/nft_json.hpp"

using namespace hptrace;

namespace {

const std::string id = "4f1c0d6a2b3e4f5061728394a5b6c7d8e9f00112233445566778899aabbccdde";

NodeState interpret(const std::vector<RuleTable>& tables) {
    NodeState state;
    interpret_rules(tables, state);
    return state;
}

NodeState state_of(const std::string& backend, Family family, const std::string& rules) {
    return in_fresh_netns([&] {
        restore(backend, family, rules);
        return interpret(read_all());
    });
}

NodeState state_of_nft(const std::string& ruleset) {
    return in_fresh_netns([&] {
        feed("nft -f -", ruleset);
        return interpret(read_all());
    });
}

// One line per rule: everything that decides, without what differs between the back ends.
std::vector<std::string> lines(const NodeState& state) {
    std::vector<std::string> result;
    for (const HostPortRule& rule : state.hostports) {
        std::string line = std::string(to_string(rule.protocol)) + " " + std::to_string(rule.port.first);
        if (rule.port.last != rule.port.first) {
            line += "-" + std::to_string(rule.port.last);
        }
        if (rule.host_ip) {
            line += " at " + to_string(*rule.host_ip);
        }
        for (const Prefix& prefix : rule.not_destinations) {
            line += " not " + to_string(prefix);
        }
        line += " -> " + to_string(rule.target) + " by " + rule.entry_chain + " > " + rule.chain;
        line += rule.local_only ? "" : ", any address";
        line += rule.local_only_output ? "" : ", any address from the node";
        line += rule.in_prerouting ? "" : ", not forwarded";
        line += rule.in_output ? "" : ", not from the node";
        line += rule.conditional ? ", conditional" : "";
        result.push_back(line);
    }
    return result;
}

using Lines = std::vector<std::string>;

std::string portmap_rules(const std::string& entries_and_chains) {
    return "*nat\n:CNI-HOSTPORT-DNAT - [0:0]\n:CNI-HOSTPORT-SETMARK - [0:0]\n:CNI-HOSTPORT-MASQ - [0:0]\n"
           ":CNI-DN-one - [0:0]\n:CNI-DN-two - [0:0]\n"
           "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n"
           "-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n"
           "-A POSTROUTING -m comment --comment \"CNI portfwd requiring masquerade\" -j CNI-HOSTPORT-MASQ\n"
           "-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE\n"
           "-A CNI-HOSTPORT-SETMARK -m comment --comment \"CNI portfwd masquerade mark\" -j MARK --set-xmark "
           "0x2000/0x2000\n" +
           entries_and_chains + "COMMIT\n";
}

std::string entry_comment(const std::string& text = "dnat name: \\\"cbr0\\\" id: \\\"" + id + "\\\"") {
    return "-m comment --comment \"" + text + "\"";
}

}  // namespace

TEST_CASE("portmap's rules are found alike in both xtables back ends") {
    const std::string rules = portmap_rules(
        "-A CNI-HOSTPORT-DNAT -p tcp " + entry_comment() + " -m multiport --dports 80,443 -j CNI-DN-one\n" +
        "-A CNI-HOSTPORT-DNAT -p sctp " + entry_comment() + " -m multiport --dports 99 -j CNI-DN-one\n" +
        "-A CNI-HOSTPORT-DNAT -p tcp " + entry_comment("dnat name: \\\"a b\\\" id: \\\"k8s.io-1\\\"") +
        " -m multiport --dports 80 ! -d 192.0.2.0/24 -j CNI-DN-two\n"
        "-A CNI-DN-one -s 10.244.1.0/24 -p tcp -m tcp --dport 80 -j CNI-HOSTPORT-SETMARK\n"
        "-A CNI-DN-one -s 127.0.0.1/32 -p tcp -m tcp --dport 80 -j CNI-HOSTPORT-SETMARK\n"
        "-A CNI-DN-one -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.1.7:8080\n"
        "-A CNI-DN-one -d 192.168.0.2/32 -p tcp -m tcp --dport 443 -j DNAT --to-destination 10.244.1.7:8443\n"
        "-A CNI-DN-one -p sctp -m sctp --dport 99 -j DNAT --to-destination 10.244.1.7:99\n"
        "-A CNI-DN-two -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.1.8:80\n");
    for (const auto& [backend, name] :
         {std::pair{"legacy", Backend::iptables_legacy}, {"nft", Backend::iptables_nft}}) {
        const NodeState state = state_of(backend, Family::ipv4, rules);
        CHECK(lines(state) == Lines{
                                  "tcp 80 -> 10.244.1.7:8080 by CNI-HOSTPORT-DNAT > CNI-DN-one",
                                  "tcp 443 at 192.168.0.2/32 -> 10.244.1.7:8443 by CNI-HOSTPORT-DNAT > CNI-DN-one",
                                  "sctp 99 -> 10.244.1.7:99 by CNI-HOSTPORT-DNAT > CNI-DN-one",
                                  "tcp 80 not 192.0.2.0/24 -> 10.244.1.8:80 by CNI-HOSTPORT-DNAT > CNI-DN-two",
                              });
        REQUIRE(state.hostports.size() == 4);
        for (std::uint32_t order = 0; order < 4; ++order) {
            CHECK(state.hostports[order].order == order);
            CHECK(state.hostports[order].backend == name);
            CHECK(state.hostports[order].producer == Producer::portmap);
            CHECK(state.hostports[order].table == "nat");
            CHECK(state.hostports[order].handle.has_value() == (name == Backend::iptables_nft));
        }
        CHECK(state.hostports[0].network == "cbr0");
        CHECK(state.hostports[0].container_id == id);
        CHECK(state.hostports[3].network == "a b");
        CHECK(state.hostports[3].container_id == "k8s.io-1");
        CHECK(state.hostports[0].text ==
              "-A CNI-DN-one -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.1.7:8080");
        CHECK(state.unread_rules.empty());
    }
}

TEST_CASE("portmap 0.6 leaves ports and protocol to the inner chain") {
    const NodeState state = state_of("legacy", Family::ipv4,
                                     portmap_rules("-A CNI-HOSTPORT-DNAT " + entry_comment() +
                                                   " -j CNI-DN-one\n"
                                                   "-A CNI-DN-one -p udp -m udp --dport 53 -j DNAT --to-destination "
                                                   "10.244.1.7:5353\n"));
    CHECK(lines(state) == Lines{"udp 53 -> 10.244.1.7:5353 by CNI-HOSTPORT-DNAT > CNI-DN-one"});
    CHECK(state.hostports.at(0).container_id == id);
}

TEST_CASE("IPv6 HostPorts stand beside IPv4's, each family with its own order") {
    const std::string ipv6 =
        portmap_rules("-A CNI-HOSTPORT-DNAT -p tcp " + entry_comment() +
                      " -m multiport --dports 80 -j CNI-DN-one\n"
                      "-A CNI-DN-one -s 2001:db8::/64 -p tcp -m tcp --dport 80 -j CNI-HOSTPORT-SETMARK\n"
                      "-A CNI-DN-one -p tcp -m tcp --dport 80 -j DNAT --to-destination "
                      "[2001:db8::2]:80\n");
    const std::string ipv4 =
        portmap_rules("-A CNI-HOSTPORT-DNAT -p tcp " + entry_comment() +
                      " -m multiport --dports 80 -j CNI-DN-one\n"
                      "-A CNI-DN-one -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.1.7:80\n");
    const NodeState state = in_fresh_netns([&] {
        restore("nft", Family::ipv6, ipv6);
        restore("nft", Family::ipv4, ipv4);
        return interpret(read_all());
    });
    CHECK(lines(state) == Lines{"tcp 80 -> 10.244.1.7:80 by CNI-HOSTPORT-DNAT > CNI-DN-one",
                                "tcp 80 -> [2001:db8::2]:80 by CNI-HOSTPORT-DNAT > CNI-DN-one"});
    CHECK(state.hostports.at(1).family == Family::ipv6);
    CHECK(state.hostports.at(1).order == 0);
}

TEST_CASE("a truncated comment gives no wrong container id") {
    for (const std::size_t length : {200U, 230U}) {  // the second one is too long even for its "..."
        const std::string name(length, 'n');
        const NodeState state =
            state_of("nft", Family::ipv4,
                     portmap_rules("-A CNI-HOSTPORT-DNAT -p tcp " +
                                   entry_comment("dnat name: \\\"" + name + "\\\" id: \\\"4f1c...") +
                                   " -m multiport --dports 80 -j CNI-DN-one\n"
                                   "-A CNI-DN-one -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.1.7:80\n"));
        REQUIRE(state.hostports.size() == 1);
        CHECK(state.hostports[0].network == name);
        CHECK(state.hostports[0].container_id.empty());
    }
}

TEST_CASE("a DNAT rule without ports is unread, never a match for all of them") {
    const NodeState state = state_of("legacy", Family::ipv4,
                                     portmap_rules("-A CNI-HOSTPORT-DNAT -j CNI-DN-one\n-A CNI-HOSTPORT-DNAT -p tcp -j "
                                                   "CNI-DN-two\n"
                                                   "-A CNI-DN-one -j DNAT --to-destination 10.244.1.7\n"
                                                   "-A CNI-DN-two -p tcp -j DNAT --to-destination 10.244.1.8:80\n"));
    CHECK(state.hostports.empty());
    REQUIRE(state.unread_rules.size() == 2);
    CHECK(state.unread_rules[0].chain == "CNI-DN-one");
    CHECK(state.unread_rules[0].text == "-A CNI-DN-one -j DNAT --to-destination 10.244.1.7");
}

TEST_CASE("chains nothing leads to take no port") {
    CHECK(state_of("nft", Family::ipv4,
                   "*nat\n:CNI-HOSTPORT-DNAT - [0:0]\n:CNI-DN-one - [0:0]\n"
                   "-A CNI-HOSTPORT-DNAT -p tcp -m multiport --dports 80 -j CNI-DN-one\n"
                   "-A CNI-DN-one -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.1.7:80\nCOMMIT\n")
              .hostports.empty());
}

TEST_CASE("a rule in front that keeps packets back narrows the HostPort") {
    const std::string hostport =
        "-A CNI-HOSTPORT-DNAT -p tcp -m multiport --dports 80 -j CNI-DN-one\n"
        "-A CNI-DN-one -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.1.7:80\n";
    const std::string chains = " -> 10.244.1.7:80 by CNI-HOSTPORT-DNAT > CNI-DN-one";
    const auto behind = [&](const std::string& rule) {
        return lines(state_of("legacy", Family::ipv4, portmap_rules("-I CNI-HOSTPORT-DNAT " + rule + "\n" + hostport)));
    };
    CHECK(behind("-d 10.96.0.0/12 -j RETURN") == Lines{"tcp 80 not 10.96.0.0/12" + chains});
    CHECK(behind("-s 10.0.0.0/8 -j ACCEPT") == Lines{"tcp 80" + chains + ", conditional"});
    CHECK(behind("-p udp -j ACCEPT") == Lines{"tcp 80" + chains + ", conditional"});
    CHECK(behind("-j RETURN").empty());
    CHECK(behind("-m comment --comment x").size() == 1);
}

TEST_CASE("matches that are not evaluated make a HostPort conditional") {
    CHECK(lines(state_of("nft", Family::ipv4,
                         portmap_rules("-A CNI-HOSTPORT-DNAT -p tcp -m multiport --dports 80 -m mark --mark 0x1 -j "
                                       "CNI-DN-one\n"
                                       "-A CNI-DN-one -p tcp -m tcp --dport 80 -j DNAT --to-destination "
                                       "10.244.1.7:80\n"))) ==
          Lines{"tcp 80 -> 10.244.1.7:80 by CNI-HOSTPORT-DNAT > CNI-DN-one, conditional"});
}

TEST_CASE("jumps tell for whom a HostPort is") {
    const std::string rest =
        "-A CNI-HOSTPORT-DNAT -p tcp -m multiport --dports 80 -j CNI-DN-one\n"
        "-A CNI-DN-one -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.1.7:80\nCOMMIT\n";
    const std::string begin = "*nat\n:CNI-HOSTPORT-DNAT - [0:0]\n:CNI-DN-one - [0:0]\n";
    const std::string text = "tcp 80 -> 10.244.1.7:80 by CNI-HOSTPORT-DNAT > CNI-DN-one";
    CHECK(lines(state_of("legacy", Family::ipv4, begin + "-A PREROUTING -j CNI-HOSTPORT-DNAT\n" + rest)) ==
          Lines{text + ", any address, not from the node"});
    CHECK(lines(state_of("legacy", Family::ipv4,
                         begin + "-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n" + rest)) ==
          Lines{text + ", not forwarded"});
}

TEST_CASE("positions of the jumps are those in the base chains") {
    const NodeState state =
        state_of("legacy", Family::ipv4,
                 "*nat\n:CNI-HOSTPORT-DNAT - [0:0]\n:KUBE-SERVICES - [0:0]\n:cali-PREROUTING - [0:0]\n"
                 "-A PREROUTING -j cali-PREROUTING\n"
                 "-A PREROUTING -j KUBE-SERVICES\n"
                 "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n"
                 "-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n"
                 "-A OUTPUT -j KUBE-SERVICES\nCOMMIT\n");
    REQUIRE(state.nat_tables.size() == 1);
    CHECK(state.nat_tables[0].prerouting.kube_services == 1);
    CHECK(state.nat_tables[0].prerouting.hostport == 2);
    CHECK(state.nat_tables[0].output.hostport == 0);
    CHECK(state.nat_tables[0].output.kube_services == 1);
    CHECK_FALSE(state.nat_tables[0].ipvs_accept);
    CHECK(state.proxy == ProxyMode::none);
}

TEST_CASE("portmap's nft table with the local check") {
    const NodeState state = state_of_nft(
        "table ip cni_hostport {\n chain hostip_hostports {\n }\n chain hostports {\n"
        " tcp dport 8080 dnat to 10.0.0.2:80 comment \"icee6\"\n"
        " ip daddr 192.168.0.2 udp dport 8083 dnat to 10.0.0.2:83 comment \"icee6\"\n }\n"
        " chain hostports_all {\n jump hostip_hostports\n jump hostports\n }\n"
        " chain masquerading {\n type nat hook postrouting priority srcnat;\n ip saddr 10.0.0.2 ip daddr 10.0.0.2 "
        "masquerade\n }\n"
        " chain output {\n type nat hook output priority -100;\n fib daddr type local jump hostports_all\n }\n"
        " chain prerouting {\n type nat hook prerouting priority dstnat;\n fib daddr type local jump hostports_all\n "
        "}\n}\n");
    CHECK(lines(state) == Lines{"tcp 8080 -> 10.0.0.2:80 by hostports_all > hostports",
                                "udp 8083 at 192.168.0.2/32 -> 10.0.0.2:83 by hostports_all > hostports"});
    REQUIRE(state.hostports.size() == 2);
    CHECK(state.hostports[0].backend == Backend::nftables);
    CHECK(state.hostports[0].table == "cni_hostport");
    CHECK(state.hostports[0].container_id == "icee6");
    CHECK(state.hostports[0].handle);
    CHECK(state.unread_rules.empty());
    CHECK(state.nat_tables.empty());
}

TEST_CASE("portmap's nft table of 1.6.1 to 1.8 takes forwarded packets to any address") {
    const NodeState state = state_of_nft(
        "table ip cni_hostport {\n chain hostip_hostports {\n ip daddr 192.168.0.2 tcp dport 81 dnat to 10.0.0.2:83 "
        "comment \"i\"\n }\n"
        " chain hostports {\n tcp dport 80 dnat to 10.0.0.2:80 comment \"i\"\n }\n"
        " chain output {\n type nat hook output priority -100;\n ip daddr != 192.0.2.0/24 jump hostip_hostports\n"
        " ip daddr != 192.0.2.0/24 fib daddr type local jump hostports\n }\n"
        " chain prerouting {\n type nat hook prerouting priority dstnat;\n ip daddr != 192.0.2.0/24 jump "
        "hostip_hostports\n"
        " ip daddr != 192.0.2.0/24 jump hostports\n }\n}\n");
    CHECK(lines(state) ==
          Lines{"tcp 81 at 192.168.0.2/32 not 192.0.2.0/24 -> 10.0.0.2:83 by hostip_hostports > hostip_hostports, any "
                "address, any address from the node",
                "tcp 80 not 192.0.2.0/24 -> 10.0.0.2:80 by hostports > hostports, any address"});
}

TEST_CASE("CRI-O's HostPorts are elements of maps") {
    const std::string ruleset = R"(table ip crio-hostports {
        comment "HostPort rules created by CRI-O"
        map hostports { type inet_proto . inet_service : ipv4_addr . inet_service; elements = {
            tcp . 8080 comment "VEBO64P7B2WCUAON" : 10.1.1.2 . 80, udp . 8080 comment "VEBO64P7B2WCUAON" : 10.1.1.2 . 81 }; }
        map hostipports { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; elements = {
            127.0.0.1 . tcp . 8084 comment "VEBO64P7B2WCUAON" : 10.1.1.2 . 84 }; }
        set hairpins { type ipv4_addr . ipv4_addr; elements = { 10.1.1.2 . 10.1.1.2 }; }
        chain hostports {
            dnat ip addr . port to ip daddr . meta l4proto . th dport map @hostipports
            dnat ip addr . port to meta l4proto . th dport map @hostports
        }
        chain prerouting { type nat hook prerouting priority dstnat; fib daddr type local goto hostports; }
        chain output { type nat hook output priority -100; fib daddr type local goto hostports; }
        chain masquerading {
            type nat hook postrouting priority srcnat;
            ct status & (dnat|snat) == dnat ip saddr . ip daddr @hairpins masquerade
        }
    }
    table ip6 crio-hostports {
        map hostports { type inet_proto . inet_service : ipv6_addr . inet_service; elements = {
            sctp . 90 comment "VEBO64P7B2WCUAON" : fd00::2 . 80 }; }
        map hostipports { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; elements = {
            fd00::1 . tcp . 91 comment "VEBO64P7B2WCUAON" : fd00::2 . 81 }; }
        chain hostports {
            dnat ip6 addr . port to ip6 daddr . meta l4proto . th dport map @hostipports
            dnat ip6 addr . port to meta l4proto . th dport map @hostports
        }
        chain prerouting { type nat hook prerouting priority dstnat; fib daddr type local goto hostports; }
    })";
    const auto [native, printed] = in_fresh_netns([&] {
        feed("nft -f -", ruleset);
        return std::pair(interpret(read_all()), output_of("nft -j list ruleset"));
    });
    const NodeState from_json = interpret(value_of(parse_nft_json(printed)));
    for (const NodeState* state : {&native, &from_json}) {
        auto found = lines(*state);
        std::ranges::sort(found);  // elements have no order
        CHECK(found == Lines{"sctp 90 -> [fd00::2]:80 by hostports > hostports, not from the node",
                             "tcp 8080 -> 10.1.1.2:80 by hostports > hostports",
                             "tcp 8084 at 127.0.0.1/32 -> 10.1.1.2:84 by hostports > hostports",
                             "tcp 91 at fd00::1/128 -> [fd00::2]:81 by hostports > hostports, not from the node",
                             "udp 8080 -> 10.1.1.2:81 by hostports > hostports"});
        CHECK(state->unread_rules.empty());
        for (const HostPortRule& rule : state->hostports) {
            CHECK(rule.producer == Producer::crio);
            CHECK(rule.backend == Backend::nftables);
            CHECK(rule.table == "crio-hostports");
            CHECK(rule.map == (rule.host_ip ? "hostipports" : "hostports"));
            CHECK(rule.handle);
            CHECK(rule.container_id.empty());  // the comment is a hash of it
        }
        REQUIRE(state->hostports.size() == 5);
        CHECK(state->hostports[0].text ==
              "dnat to ip daddr . meta l4proto . th dport map @hostipports { 127.0.0.1 . tcp . 8084 comment "
              "\"VEBO64P7B2WCUAON\" : 10.1.1.2 . 84 }");
    }
}

TEST_CASE("elements and lookups of CRI-O's maps that are not understood are reported once") {
    const NodeState state = state_of_nft(R"(table ip crio-hostports {
        map hostports { type inet_proto . inet_service : ipv4_addr . inet_service; elements = {
            tcp . 8080 : 10.1.1.2 . 80, icmp . 1 : 10.1.1.2 . 1, * : 10.1.1.3 . 80 }; }
        map sources { type ipv4_addr : ipv4_addr; elements = { 10.0.0.1 : 10.1.1.2 }; }
        map ports { type inet_service : ipv4_addr; elements = { 99 : 10.1.1.4 }; }
        map verdicts { type inet_service : verdict; }
        chain hostports {
            udp dport vmap @verdicts
            dnat to udp dport map @ports
            dnat ip addr . port to meta l4proto . th dport map @hostports
            dnat to ip saddr map @sources
        }
        chain prerouting { type nat hook prerouting priority dstnat; fib daddr type local goto hostports; }
        chain output { type nat hook output priority -100; fib daddr type local goto hostports; }
    })");
    CHECK(lines(state) ==
          Lines{"udp 99 -> 10.1.1.4:0 by hostports > hostports", "tcp 8080 -> 10.1.1.2:80 by hostports > hostports"});
    std::vector<std::string> unread;
    for (const auto& rule : state.unread_rules) {
        unread.push_back(rule.chain + ": " + rule.text);
    }
    std::ranges::sort(unread);
    CHECK(unread == Lines{"hostports: an element of another kind", "hostports: element icmp . 1 : 10.1.1.2 . 1",
                          "hostports: meta l4proto udp th dport vmap @verdicts",
                          "sources: element 10.0.0.1 : 10.1.1.2"});
}

TEST_CASE("CRI-O, Docker and netavark HostPorts of simple shape") {
    const NodeState crio = state_of(
        "nft", Family::ipv4,
        "*nat\n:KUBE-HOSTPORTS - [0:0]\n:KUBE-HP-X - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n-A KUBE-MARK-MASQ -j MARK "
        "--or-mark 0x4000\n"
        "-A PREROUTING -m comment --comment \"kube hostport portals\" -m addrtype --dst-type LOCAL -j KUBE-HOSTPORTS\n"
        "-A OUTPUT -m comment --comment \"kube hostport portals\" -m addrtype --dst-type LOCAL -j KUBE-HOSTPORTS\n"
        "-A KUBE-HOSTPORTS -m comment --comment \"pod1_ns1 hostport 8080\" -m tcp -p tcp --dport 8080 -j KUBE-HP-X\n"
        "-A KUBE-HP-X -s 10.1.1.2/32 -j KUBE-MARK-MASQ\n"
        "-A KUBE-HP-X -m comment --comment \"pod1_ns1 hostport 8080\" -m tcp -p tcp -j DNAT --to-destination "
        "10.1.1.2:80\n"
        "COMMIT\n");
    CHECK(lines(crio) == Lines{"tcp 8080 -> 10.1.1.2:80 by KUBE-HOSTPORTS > KUBE-HP-X"});
    CHECK(crio.hostports.at(0).producer == Producer::crio);

    const NodeState docker =
        state_of("legacy", Family::ipv4,
                 "*nat\n:DOCKER - [0:0]\n-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n"
                 "-A DOCKER -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80\nCOMMIT\n");
    CHECK(lines(docker) == Lines{"tcp 8080 -> 172.17.0.2:80 by DOCKER > DOCKER, not from the node"});
    CHECK(docker.hostports.at(0).producer == Producer::docker);

    const NodeState netavark = state_of_nft(
        "table inet netavark {\n chain nv_dnat {\n ip saddr 10.88.0.0/16 meta mark set meta mark | 0x2000\n"
        " tcp dport 8080 ct mark set meta mark dnat ip to 10.88.0.14:80\n }\n"
        " chain NETAVARK-HOSTPORT-DNAT {\n tcp dport 8080 jump nv_dnat\n }\n"
        " chain PREROUTING {\n type nat hook prerouting priority dstnat;\n fib daddr type local jump "
        "NETAVARK-HOSTPORT-DNAT\n }\n"
        " chain OUTPUT {\n type nat hook output priority -100;\n fib daddr type local jump NETAVARK-HOSTPORT-DNAT\n "
        "}\n}\n");
    CHECK(lines(netavark) == Lines{"tcp 8080 -> 10.88.0.14:80 by NETAVARK-HOSTPORT-DNAT > nv_dnat"});
    CHECK(netavark.hostports.at(0).producer == Producer::netavark);
}

TEST_CASE("HostPorts behind maps are said to be unread, but for CRI-O's") {
    const NodeState state = state_of_nft(
        "table ip docker-bridges {\n map hostports {\n type inet_proto . inet_service : ipv4_addr . inet_service\n }\n"
        " chain hostports {\n dnat ip addr . port to meta l4proto . th dport map @hostports\n }\n"
        " chain prerouting {\n type nat hook prerouting priority dstnat;\n fib daddr type local goto hostports\n "
        "}\n}\n");
    CHECK(state.hostports.empty());
    REQUIRE(state.unread_rules.size() == 1);
    CHECK(state.unread_rules[0].chain == "hostports");
    CHECK(state.unread_rules[0].text.find("@hostports") != std::string::npos);
}

TEST_CASE("the portmap plugin itself writes what is expected, in both back ends") {
    const auto folder = std::filesystem::temp_directory_path() / ("hptrace-portmap-" + std::to_string(::getpid()));
    std::vector<Lines> seen;
    for (const std::string backend : {"legacy", "nft"}) {
        const auto tools = folder / backend;
        std::filesystem::create_directories(tools);
        for (const std::string tool : {"iptables", "ip6tables"}) {
            std::filesystem::create_symlink("/usr/sbin/" + tool + "-" + backend, tools / tool);
        }
        const NodeState state = in_fresh_netns([&] {
            const std::string portmap =
                std::filesystem::exists("/usr/lib/cni/portmap") ? "/usr/lib/cni/portmap" : "/opt/cni/bin/portmap";
            run("ip link set lo up");
            feed(
                "CNI_COMMAND=ADD CNI_CONTAINERID=" + id + " CNI_NETNS=/proc/" + std::to_string(::getpid()) +
                    "/ns/net CNI_IFNAME=eth0 CNI_PATH=/usr/lib/cni PATH=" + tools.string() +
                    ":/usr/sbin:/usr/bin:/sbin:/bin " + portmap + " > /dev/null",
                R"({"cniVersion":"1.0.0","name":"cbr0","type":"portmap","snat":true,"capabilities":{"portMappings":true},
                  "conditionsV4":["!","-d","192.0.2.0/24"],
                  "runtimeConfig":{"portMappings":[{"hostPort":3306,"containerPort":3307,"protocol":"tcp"},
                    {"hostPort":8080,"containerPort":80,"protocol":"tcp","hostIP":"192.168.0.2"},
                    {"hostPort":99,"containerPort":99,"protocol":"sctp"}]},
                  "prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/x"}],
                    "ips":[{"interface":0,"address":"10.244.1.7/24"},{"interface":0,"address":"2001:db8::2/64"}]}})");
            return interpret(read_all());
        });
        REQUIRE_FALSE(state.hostports.empty());
        CHECK(state.unread_rules.empty());
        for (const HostPortRule& rule : state.hostports) {
            CHECK(rule.network == "cbr0");
            CHECK(rule.container_id == id);
        }
        seen.push_back(lines(state));
    }
    std::filesystem::remove_all(folder);
    // MustFormatHashWithPrefix(28, "CNI-DN-", "cbr0" + id)
    const std::string chain = "CNI-DN-" + output_of("printf %s cbr0" + id + " | sha512sum").substr(0, 21);
    const std::string by = " by CNI-HOSTPORT-DNAT > " + chain;
    CHECK(seen.at(0) == Lines{"sctp 99 not 192.0.2.0/24 -> 10.244.1.7:99" + by,
                              "tcp 3306 not 192.0.2.0/24 -> 10.244.1.7:3307" + by,
                              "tcp 8080 at 192.168.0.2/32 not 192.0.2.0/24 -> 10.244.1.7:80" + by,
                              "sctp 99 -> [2001:db8::2]:99" + by, "tcp 3306 -> [2001:db8::2]:3307" + by});
    CHECK(seen.at(1) == seen.at(0));
}
