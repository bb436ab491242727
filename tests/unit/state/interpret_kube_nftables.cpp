// SPDX-License-Identifier: GPL-2.0-or-later
// Services of kube-proxy's nftables mode, from rules in the shapes of its versions, written by nft. Those of 1.37 are
// in tests/dumps.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>

#include "rules.hpp"
#include "service_line.hpp"

using namespace hptrace;

namespace {

using Lines = std::vector<std::string>;

NodeState state_of(const std::string& ruleset) {
    return in_fresh_netns([&] {
        feed("nft -f -", ruleset);
        NodeState state;
        interpret_rules(read_all(), state);
        return state;
    });
}

Lines lines(const NodeState& state) {
    Lines result;
    std::ranges::transform(state.services, std::back_inserter(result), service_line);
    std::ranges::sort(result);
    return result;
}

Lines unread(const NodeState& state) {
    Lines result;
    for (const auto& rule : state.unread_rules) {
        CHECK(rule.backend == Backend::nftables);
        std::string text = rule.text;
        constexpr std::string_view anonymous = "@__map";  // which the kernel numbers
        if (const auto at = text.find(anonymous); at != std::string::npos) {
            text.erase(at + anonymous.size(), text.find(']', at) - at - anonymous.size());
        }
        result.push_back(rule.chain + ": " + text);
    }
    std::ranges::sort(result);
    return result;
}

const std::string node_ports_anywhere = "fib daddr type local ip daddr != 127.0.0.0/8";
const std::string node_ports_at_node = "ip daddr @nodeport-ips";

// What kube-proxy 1.29 sets up at its start, and what a test adds: elements of the four maps, and more of the table.
struct Table {
    std::string service_ips{};
    std::string service_nodeports{};
    std::string no_endpoint_services{};
    std::string no_endpoint_nodeports{};
    std::string more{};
    std::string node_ports = node_ports_anywhere;
    std::string base_rule = "jump services";
    std::string services_rules{};  // before the others

    [[nodiscard]] std::string text() const {
        const auto map = [](const std::string& name, const std::string& type, const std::string& elements) {
            return "map " + name + " { type " + type + " : verdict; " +
                   (elements.empty() ? "" : "elements = { " + elements + " };") + " }\n";
        };
        const std::string ip = "ipv4_addr . inet_proto . inet_service";
        const std::string port = "inet_proto . inet_service";
        return "table ip kube-proxy {\ncomment \"rules for kube-proxy\"\nset nodeport-ips { type ipv4_addr; "
               "elements = { 192.168.0.2, 192.168.0.3 }; }\nchain mark-for-masquerade {\nmeta mark set meta mark | "
               "0x4000\n}\nchain reject-chain {\nreject\n}\n" +
               more + "\n" + map("service-ips", ip, service_ips) + map("service-nodeports", port, service_nodeports) +
               map("no-endpoint-services", ip, no_endpoint_services) +
               map("no-endpoint-nodeports", port, no_endpoint_nodeports) + "chain services {\n" + services_rules +
               "\nip daddr . meta l4proto . th dport vmap @service-ips\n" + node_ports +
               " meta l4proto . th dport vmap @service-nodeports\n}\nchain endpoints-check {\nip daddr . meta "
               "l4proto . th dport vmap @no-endpoint-services\n" +
               node_ports +
               " meta l4proto . th dport vmap @no-endpoint-nodeports\n}\nchain filter-input {\ntype filter hook "
               "input priority -110;\nct state new jump endpoints-check\n}\nchain nat-prerouting {\ntype nat hook "
               "prerouting priority dstnat;\n" +
               base_rule + "\n}\nchain nat-output {\ntype nat hook output priority -100;\n" + base_rule + "\n}\n}\n";
    }
};

// service-ULMVA6XW-ns1/svc1/tcp/p80 with two endpoints, as before 1.33.
const std::string svc1 = R"(
    chain endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80 {
        ip saddr 10.180.0.1 jump mark-for-masquerade
        meta l4proto tcp dnat to 10.180.0.1:80
    }
    chain endpoint-XOROKKXV-ns1/svc1/tcp/p80__10.180.0.2/80 {
        ip saddr 10.180.0.2 jump mark-for-masquerade
        meta l4proto tcp dnat to 10.180.0.2:80
    }
    chain service-ULMVA6XW-ns1/svc1/tcp/p80 {
        ip daddr 172.30.0.41 tcp dport 80 ip saddr != 10.0.0.0/8 jump mark-for-masquerade
        numgen random mod 2 vmap { 0 : goto endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80,
                                   1 : goto endpoint-XOROKKXV-ns1/svc1/tcp/p80__10.180.0.2/80 }
    }
    chain external-ULMVA6XW-ns1/svc1/tcp/p80 {
        jump mark-for-masquerade
        goto service-ULMVA6XW-ns1/svc1/tcp/p80
    }
)";
const std::string svc1_endpoints = " ns1/svc1:p80 10.180.0.1:80 10.180.0.2:80";

}  // namespace

TEST_CASE("Services of 1.29: one chain per endpoint, no set of ClusterIPs") {
    const auto state =
        state_of(Table{.service_ips = "172.30.0.41 . tcp . 80 : goto service-ULMVA6XW-ns1/svc1/tcp/p80,"
                                      "192.0.2.1 . tcp . 80 : goto external-ULMVA6XW-ns1/svc1/tcp/p80",
                       .service_nodeports = "tcp . 30080 : goto external-ULMVA6XW-ns1/svc1/tcp/p80",
                       .no_endpoint_services = "172.30.0.42 . udp . 53 comment \"ns1/empty:dns\" : goto reject-chain",
                       .no_endpoint_nodeports = "tcp . 30081 comment \"ns1/empty\" : goto reject-chain",
                       .more = svc1}
                     .text());
    CHECK(lines(state) ==
          Lines{"ClusterIP 172.30.0.41:80/tcp" + svc1_endpoints, "ClusterIP 172.30.0.42:53/udp ns1/empty:dns",
                "ExternalIP 192.0.2.1:80/tcp" + svc1_endpoints, "NodePort any but loopback:30080/tcp" + svc1_endpoints,
                "NodePort any but loopback:30081/tcp ns1/empty:"});
    CHECK(unread(state).empty());
    CHECK(state.proxy == ProxyMode::nftables);
    CHECK(std::ranges::all_of(state.services, [](const Service& service) {
        return service.proxy == ServiceProxy::nftables && service.backend == Backend::nftables;
    }));
}

TEST_CASE("NodePorts are served where the rule says") {
    const auto node_ports = [](const std::string& where) {
        return lines(state_of(Table{.service_nodeports = "tcp . 30080 : goto external-ULMVA6XW-ns1/svc1/tcp/p80",
                                    .no_endpoint_nodeports = "tcp . 30081 comment \"ns1/empty\" : goto reject-chain",
                                    .more = svc1,
                                    .node_ports = where}
                                  .text()));
    };
    CHECK(node_ports(node_ports_at_node) ==
          Lines{"NodePort 192.168.0.2:30080/tcp" + svc1_endpoints, "NodePort 192.168.0.2:30081/tcp ns1/empty:",
                "NodePort 192.168.0.3:30080/tcp" + svc1_endpoints, "NodePort 192.168.0.3:30081/tcp ns1/empty:"});
    CHECK(node_ports("fib daddr type local") ==
          Lines{"NodePort any:30080/tcp" + svc1_endpoints, "NodePort any:30081/tcp ns1/empty:"});
}

TEST_CASE("addresses that are no ClusterIP: a load balancer's are known by source ranges only") {
    const auto state =
        state_of(Table{.service_ips = "172.30.0.41 . tcp . 80 : goto service-ULMVA6XW-ns1/svc1/tcp/p80,"
                                      "192.0.2.1 . tcp . 80 : goto external-ULMVA6XW-ns1/svc1/tcp/p80,"
                                      "192.0.2.2 . tcp . 80 : goto external-ULMVA6XW-ns1/svc1/tcp/p80",
                       .no_endpoint_services = "172.30.0.42 . tcp . 80 comment \"ns1/empty\" : goto reject-chain,"
                                               "192.0.2.3 . tcp . 80 comment \"ns1/empty\" : goto reject-chain",
                       .more = svc1 + R"(
            set cluster-ips { type ipv4_addr; elements = { 172.30.0.41, 172.30.0.42 }; }
            chain firewall-ULMVA6XW-ns1/svc1/tcp/p80 {
                ip saddr != { 203.0.113.0/25, 203.0.113.128/26 } drop
            }
            map firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict; elements = {
                192.0.2.2 . tcp . 80 : goto firewall-ULMVA6XW-ns1/svc1/tcp/p80 }; })"}
                     .text());
    CHECK(lines(state) ==
          Lines{"ClusterIP 172.30.0.41:80/tcp" + svc1_endpoints,
                "ClusterIP 172.30.0.42:80/tcp ns1/empty:", "ExternalIP 192.0.2.1:80/tcp" + svc1_endpoints,
                "ExternalIP 192.0.2.3:80/tcp ns1/empty:", "LoadBalancer 192.0.2.2:80/tcp" + svc1_endpoints});
    CHECK(unread(state).empty());
}

TEST_CASE("traffic policies Local") {
    const auto external = [](const std::string& last_rule) {
        return state_of(
            Table{.service_nodeports = "tcp . 30080 : goto external-ULMVA6XX-ns1/svc2/tcp/",
                  .no_endpoint_nodeports = last_rule.empty() ? "tcp . 30080 comment \"ns1/svc2\" : drop" : "",
                  .more = svc1 + R"(
            chain service-ULMVA6XX-ns1/svc2/tcp/ {
                meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.180.0.7 . 80, 1 : 10.180.1.8 . 8080 }
            }
            chain local-ULMVA6XX-ns1/svc2/tcp/ {
                meta l4proto tcp dnat to 10.180.0.7:80
            }
            chain external-ULMVA6XX-ns1/svc2/tcp/ {
                ip saddr 10.0.0.0/8 goto service-ULMVA6XX-ns1/svc2/tcp/
                fib saddr type local jump mark-for-masquerade
                fib saddr type local goto service-ULMVA6XX-ns1/svc2/tcp/ )" +
                          last_rule + "\n}\n"}
                .text());
    };
    const std::string service = "NodePort any but loopback:30080/tcp ns1/svc2: 10.180.0.7:80 10.180.1.8:8080, local";
    CHECK(lines(external("")) == Lines{service});
    CHECK(lines(external("\ngoto local-ULMVA6XX-ns1/svc2/tcp/")) == Lines{service + ", outside handled"});

    // internalTrafficPolicy Local leads straight to the endpoints that are here, without any the ClusterIP is dropped.
    CHECK(lines(state_of(Table{.service_ips = "172.30.0.41 . tcp . 80 : goto local-ULMVA6XX-ns1/svc2/tcp/",
                               .no_endpoint_services = "172.30.0.42 . tcp . 80 comment \"ns1/svc3\" : drop",
                               .more = "chain local-ULMVA6XX-ns1/svc2/tcp/ {\nmeta l4proto tcp dnat to "
                                       "10.180.0.7:80\n}\n"}
                             .text())) ==
          Lines{"ClusterIP 172.30.0.41:80/tcp ns1/svc2: 10.180.0.7:80", "ClusterIP 172.30.0.42:80/tcp ns1/svc3:"});
}

TEST_CASE("session affinity") {
    const auto state =
        state_of(Table{.service_ips = "172.30.0.41 . tcp . 80 : goto service-ULMVA6XX-ns1/svc2/tcp/", .more = R"(
        set affinity-5OJB2KTY-ns1/svc2/tcp/__10.180.0.1/80 { type ipv4_addr; flags dynamic,timeout; timeout 3h; }
        chain endpoint-5OJB2KTY-ns1/svc2/tcp/__10.180.0.1/80 {
            update @affinity-5OJB2KTY-ns1/svc2/tcp/__10.180.0.1/80 { ip saddr }
            meta l4proto tcp dnat to 10.180.0.1:80
        }
        chain service-ULMVA6XX-ns1/svc2/tcp/ {
            ip saddr @affinity-5OJB2KTY-ns1/svc2/tcp/__10.180.0.1/80 goto endpoint-5OJB2KTY-ns1/svc2/tcp/__10.180.0.1/80
            numgen random mod 1 vmap { 0 : goto endpoint-5OJB2KTY-ns1/svc2/tcp/__10.180.0.1/80 }
        })"}
                     .text());
    CHECK(lines(state) == Lines{"ClusterIP 172.30.0.41:80/tcp ns1/svc2: 10.180.0.1:80, persistent"});
    CHECK(unread(state).empty());
}

TEST_CASE("a name that was cut off, or is none, is left out") {
    const std::string cut = "service-ULMVA6XW-ns1/" + std::string(63, 'x') + "/tcp/...";
    const auto chain = [](const std::string& name) {
        return "chain " + name + " {\nmeta l4proto tcp dnat to 10.180.0.7:80\n}\n";
    };
    const auto state = state_of(
        Table{.service_ips = "172.30.0.1 . tcp . 80 : goto " + cut +
                             ", 172.30.0.2 . tcp . 80 : goto service-short, 172.30.0.3 . tcp . 80 : goto "
                             "service-ULMVA6XW-ns1/a/tcp/b/c, 172.30.0.4 . tcp . 80 : goto service-ULMVA6XW-ns1/a",
              .no_endpoint_services = "172.30.0.5 . tcp . 80 comment \"ns1/" + std::string(124, 'y') + "\" : drop",
              .more = chain(cut) + chain("service-short") + chain("service-ULMVA6XW-ns1/a/tcp/b/c") +
                      chain("service-ULMVA6XW-ns1/a")}
            .text());
    CHECK(lines(state) == Lines{"ClusterIP 172.30.0.1:80/tcp 10.180.0.7:80",
                                "ClusterIP 172.30.0.2:80/tcp 10.180.0.7:80",
                                "ClusterIP 172.30.0.3:80/tcp 10.180.0.7:80",
                                "ClusterIP 172.30.0.4:80/tcp 10.180.0.7:80", "ClusterIP 172.30.0.5:80/tcp"});
}

TEST_CASE("chains that no map leads to, and tables that no hook leads to, are leftovers") {
    CHECK(lines(state_of(Table{.more = svc1}.text())).empty());
    const auto state = state_of(Table{.service_ips = "172.30.0.41 . tcp . 80 : goto service-ULMVA6XW-ns1/svc1/tcp/p80",
                                      .no_endpoint_services = "172.30.0.42 . tcp . 80 comment \"ns1/a\" : drop",
                                      .more = svc1,
                                      .base_rule = "accept"}
                                    .text());
    CHECK(lines(state).empty());
    CHECK(state.proxy == ProxyMode::none);
}

TEST_CASE("IPv6 has a table of its own") {
    const auto state = state_of(R"(table ip6 kube-proxy {
        set cluster-ips { type ipv6_addr; elements = { fd00::a }; }
        set nodeport-ips { type ipv6_addr; elements = { fd00:192::2 }; }
        chain service-ULMVA6XW-ns1/svc1/tcp/p80 {
            meta l4proto tcp dnat ip6 to numgen random mod 2 map { 0 : fd00:180::1 . 80, 1 : fd00:180::2 . 80 }
        }
        chain external-ULMVA6XW-ns1/svc1/tcp/p80 {
            goto service-ULMVA6XW-ns1/svc1/tcp/p80
        }
        map service-ips { type ipv6_addr . inet_proto . inet_service : verdict; elements = {
            fd00::a . tcp . 80 : goto service-ULMVA6XW-ns1/svc1/tcp/p80 }; }
        map service-nodeports { type inet_proto . inet_service : verdict; elements = {
            tcp . 30080 : goto external-ULMVA6XW-ns1/svc1/tcp/p80 }; }
        map no-endpoint-services { type ipv6_addr . inet_proto . inet_service : verdict; elements = {
            2001:db8::1 . tcp . 80 comment "ns1/svc2" : drop }; }
        chain services {
            ip6 daddr . meta l4proto . th dport vmap @service-ips
            ip6 daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
        }
        chain nat-prerouting {
            type nat hook prerouting priority dstnat;
            jump services
        }
    })");
    const std::string endpoints = " ns1/svc1:p80 [fd00:180::1]:80 [fd00:180::2]:80";
    CHECK(lines(state) == Lines{"ClusterIP fd00::a:80/tcp" + endpoints, "ExternalIP 2001:db8::1:80/tcp ns1/svc2:",
                                "NodePort fd00:192::2:30080/tcp" + endpoints});
    CHECK(std::ranges::all_of(state.services, [](const Service& service) { return service.family == Family::ipv6; }));
}

TEST_CASE("what is not understood is reported once, and everything else is read") {
    const std::string elements = "172.30.0.41 . tcp . 80 : goto service-ULMVA6XW-ns1/svc1/tcp/p80";
    const Lines services{"ClusterIP 172.30.0.41:80/tcp" + svc1_endpoints};
    const auto check = [&](const Table& table, const Lines& expected) {
        const auto state = state_of(table.text());
        CHECK(lines(state) == services);
        CHECK(unread(state) == expected);
        CHECK(state.proxy == ProxyMode::nftables);
    };
    SECTION("a rule of services") {
        check({.service_ips = elements, .more = svc1, .services_rules = "tcp dport 99 dnat to 10.0.0.1"},
              {"services: tcp dport 99 dnat to 10.0.0.1"});
        check({.service_ips = elements,
               .more = svc1 + "map other { type inet_service : verdict; }\n",
               .services_rules = "tcp dport vmap @other\nip saddr 10.0.0.1 ip daddr . meta l4proto . th dport vmap "
                                 "@service-ips\njhash ip saddr mod 2 vmap { 0 : drop }"},
              {"services: [map @__map]",
               "services: ip saddr 10.0.0.1/32 ip daddr . meta l4proto . th dport vmap @service-ips",
               "services: meta l4proto tcp th dport vmap @other"});
    }
    SECTION("a condition on NodePorts") {
        check({.service_ips = elements,
               .service_nodeports = "tcp . 30080 : goto external-ULMVA6XW-ns1/svc1/tcp/p80",
               .more = svc1,
               .node_ports = "ip daddr 192.168.0.0/24"},
              {"services: ip daddr 192.168.0.0/24 meta l4proto . th dport vmap @service-nodeports"});
    }
    SECTION("elements") {
        check({.service_ips = elements + ", 172.30.0.42 . tcp . 80 : accept, 172.30.0.43 . icmp . 80 : goto "
                                         "service-ULMVA6XW-ns1/svc1/tcp/p80",
               .no_endpoint_services = "172.30.0.44 . 99 . 0 comment \"ns1/x\" : drop, * : drop",
               .more = svc1},
              {"no-endpoint-services: an element of another kind",
               "no-endpoint-services: element 172.30.0.44 . 99 . 0 comment \"ns1/x\" : drop",
               "service-ips: element 172.30.0.42 . tcp . 80 : accept",
               "service-ips: element 172.30.0.43 . icmp . 80 : goto service-ULMVA6XW-ns1/svc1/tcp/p80"});
    }
    SECTION("a chain of a Service") {
        const auto state = state_of(Table{
            .service_ips = elements + ", 172.30.0.41 . tcp . 81 : goto service-ULMVA6XX-ns1/svc2/tcp/",
            .more = svc1 +
                    "chain service-ULMVA6XX-ns1/svc2/tcp/ {\nmeta l4proto tcp dnat ip to jhash ip saddr mod 1 map "
                    "{ 0 : 10.0.0.1 . 80 }\nredirect\n}\n"}
                                        .text());
        CHECK(lines(state) == Lines{services[0], "ClusterIP 172.30.0.41:81/tcp ns1/svc2:"});
        CHECK(unread(state) ==
              Lines{"service-ULMVA6XX-ns1/svc2/tcp/: meta l4proto tcp [map @__map] [dnat to what is not constant] dnat",
                    "service-ULMVA6XX-ns1/svc2/tcp/: redirect"});
    }
    SECTION("a map of another type") {
        check({.service_ips = elements,
               .more = svc1 + "map x { type ipv4_addr . ipv4_addr : verdict; }\n",
               .services_rules = "ip saddr . ip daddr vmap @x"},
              {"services: [map @x]"});
    }
}

TEST_CASE("nftables mode: rules, addresses and node ports that multiply are followed so far, and that is said") {
    Table table{.node_ports = node_ports_at_node};
    table.more = "chain service-AAAAAAAA-a/b/tcp/p {\nip protocol tcp dnat to 10.0.0.1:80\n}";
    for (int port = 1; port <= 1500; ++port) {
        table.service_nodeports +=
            (port > 1 ? ", tcp . " : "tcp . ") + std::to_string(port) + " : goto service-AAAAAAAA-a/b/tcp/p";
        table.services_rules += "ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports\n";
    }
    const auto state = state_of(table.text());
    CHECK(state.services.size() == 3000);
    CHECK(std::ranges::any_of(state.unread_rules, [](const UnreadRule& rule) { return rule.chain == "services"; }));
}
