// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch_test_macros.hpp>
#include <functional>

#include "names/names.hpp"
#include "node.hpp"

using namespace hptrace;
using namespace hptrace::test;

namespace {

constexpr const char* service_address = "10.96.0.10:3306";
constexpr const char* node_port_address = "192.168.0.2:30306";
constexpr const char* hostport_pod = "10.224.0.222:3306";
constexpr const char* endpoint = "10.224.0.224:3306";

Verdict verdict(const Connection& made, const NodeState& state) {
    return judged(made, state).verdict;
}

}  // namespace

TEST_CASE("a hijack names Service, rule, expected endpoints and reason") {
    const auto finding = judged(connection(service_address, hostport_pod), ipvs_node(Backend::iptables_nft));
    CHECK(finding.verdict == Verdict::hijacked);
    REQUIRE(finding.service);
    CHECK(finding.service->kind == ServiceKind::cluster_ip);
    REQUIRE(finding.rule);
    CHECK(finding.rule->chain == mysql_b_chain);
    CHECK(finding.leftover == LeftOver::no);
    CHECK(finding.expected == std::vector{end(endpoint)});
    CHECK(finding.expected_total == 1);
    CHECK(finding.reason_code == ReasonCode::other_backend);
    CHECK(finding.reason.find("10.96.0.10 is local (kube-ipvs0)") != std::string::npos);
    CHECK(finding.conflict_id.starts_with("c-"));
    CHECK(finding.state_boot_ns == 1000);
}

TEST_CASE("every hijack has the reason its rules show") {
    struct Case {
        const char* what;
        NodeState state;
        const char* original;
        ReasonCode code;
    };
    const auto with = [](NodeState state, const std::function<void(NodeState&)>& change) {
        change(state);
        return state;
    };
    const auto legacy = Backend::iptables_legacy;
    const auto nft = Backend::iptables_nft;
    const std::vector<Case> cases{
        {"ACCEPT in the other xtables back end", ipvs_node(nft), service_address, ReasonCode::other_backend},
        {"native nft rule", ipvs_node(Backend::nftables), service_address, ReasonCode::other_backend},
        {"portmap before 0.7.5",
         with(ipvs_node(legacy), [](auto& s) { s.nat_tables = {nat(Backend::iptables_legacy, true, true)}; }),
         service_address, ReasonCode::jump_before_kube_services},
        {"jump first in OUTPUT only", with(ipvs_node(legacy), [](auto& s) { s.nat_tables[0].output = {1, 0}; }),
         service_address, ReasonCode::jump_before_kube_services},
        {"kube-router",
         with(ipvs_node(legacy),
              [](auto& s) { s.nat_tables = {{Backend::iptables_legacy, Family::ipv4, {-1, 0}, {-1, 0}, false}}; }),
         service_address, ReasonCode::no_accept},
        {"kube-router, an address of the node",
         with(ipvs_node(legacy),
              [](auto& s) {
                  s.hostports = {hostport(Backend::iptables_legacy, 30306)};
                  s.nat_tables.clear();
              }),
         node_port_address, ReasonCode::no_accept},
        {"ACCEPT of the other family only",
         with(ipvs_node(legacy), [](auto& s) { s.nat_tables[0].family = Family::ipv6; }), service_address,
         ReasonCode::no_accept},
        {"ipvs NodePort, same table",
         with(ipvs_node(legacy), [](auto& s) { s.hostports = {hostport(Backend::iptables_legacy, 30306)}; }),
         node_port_address, ReasonCode::nodeport_ipvs},
        {"ipvs NodePort, other back end",
         with(ipvs_node(nft), [](auto& s) { s.hostports = {hostport(Backend::iptables_nft, 30306)}; }),
         node_port_address, ReasonCode::nodeport_ipvs},
        {"health check port",
         with(ipvs_node(legacy),
              [](auto& s) {
                  s.hostports = {hostport(Backend::iptables_legacy, 30306)};
                  s.services[1].kind = ServiceKind::health_check_node_port;
                  s.services[1].endpoints.clear();
              }),
         node_port_address, ReasonCode::not_served_here},
        {"ACCEPT first, and taken all the same", ipvs_node(legacy), service_address, ReasonCode::not_served_here},
        {"iptables NodePort without endpoints",
         with(iptables_node(legacy),
              [](auto& s) {
                  s.hostports = {hostport(Backend::iptables_legacy, 30306)};
                  s.services[1].endpoints.clear();
              }),
         node_port_address, ReasonCode::no_endpoints},
        {"iptables NodePort, portmap before 0.7.5",
         with(iptables_node(legacy),
              [](auto& s) {
                  s.hostports = {hostport(Backend::iptables_legacy, 30306)};
                  s.nat_tables = {nat(Backend::iptables_legacy, false, true)};
              }),
         node_port_address, ReasonCode::jump_before_kube_services},
        {"iptables NodePort, other back end",
         with(iptables_node(nft), [](auto& s) { s.hostports = {hostport(Backend::iptables_nft, 30306)}; }),
         node_port_address, ReasonCode::hook_order},
        {"iptables NodePort, KUBE-SERVICES first",
         with(iptables_node(legacy), [](auto& s) { s.hostports = {hostport(Backend::iptables_legacy, 30306)}; }),
         node_port_address, ReasonCode::not_served_here},
        {"nftables mode NodePort",
         with(nftables_node(nft), [](auto& s) { s.hostports = {hostport(Backend::iptables_nft, 30306)}; }),
         node_port_address, ReasonCode::hook_order},
        {"nftables mode NodePort without endpoints",
         with(nftables_node(nft),
              [](auto& s) {
                  s.hostports = {hostport(Backend::iptables_nft, 30306)};
                  s.services[1].endpoints.clear();
              }),
         node_port_address, ReasonCode::no_endpoints},
        {"nftables mode LoadBalancer address: its ranges are dropped before nat",
         with(nftables_node(nft),
              [](auto& s) {
                  s.services[0].kind = ServiceKind::load_balancer;
                  s.local_addresses.push_back(local("10.96.0.10/32", "eth0"));
              }),
         service_address, ReasonCode::hook_order},
        {"portmap nft 1.6.1 to 1.8.0",
         with(iptables_node(Backend::nftables), [](auto& s) { s.hostports[0].local_only = false; }), service_address,
         ReasonCode::no_local_check},
    };
    for (const auto& test : cases) {
        INFO(test.what);
        const auto finding = judged(connection(test.original, hostport_pod), test.state);
        CHECK(finding.verdict == Verdict::hijacked);
        REQUIRE(finding.reason_code);
        CHECK(to_string(*finding.reason_code) == to_string(test.code));
        CHECK_FALSE(finding.reason.empty());
    }
}

TEST_CASE("policy Local: without an endpoint here only clients from outside fall through") {
    const auto reason = [](const NodeState& state, const char* client) {
        auto made = connection(node_port_address, hostport_pod);
        made.client = end(client);
        const auto finding = judged(made, state);
        CHECK(finding.verdict == Verdict::hijacked);
        return finding.reason_code;
    };
    // Iptables mode in the other back end, so that hook order decides about all others.
    for (auto state : {nftables_node(Backend::iptables_nft), iptables_node(Backend::iptables_nft)}) {
        state.hostports = {hostport(Backend::iptables_nft, 30306)};
        state.services[1].external_local = true;
        CHECK(reason(state, "192.168.0.50:40000") == ReasonCode::etp_local);
        CHECK(reason(state, "192.168.0.2:40000") == ReasonCode::hook_order);   // the node
        CHECK(reason(state, "10.224.0.223:40000") == ReasonCode::hook_order);  // a pod on it
        state.services[1].handles_outside = true;
        CHECK(reason(state, "192.168.0.50:40000") == ReasonCode::hook_order);
    }
}

TEST_CASE("iptables mode, source ranges: only clients outside of them fall through") {
    auto state = iptables_node(Backend::iptables_legacy);
    state.services[0].kind = ServiceKind::load_balancer;
    state.services[0].allowed_sources = {parse_prefix("203.0.113.0/24").value(), parse_prefix("10.224.0.0/16").value()};
    state.local_addresses.push_back(local("10.96.0.10/32", "eth0"));
    const auto reason = [&](const char* client) {
        auto made = connection(service_address, hostport_pod);
        made.client = end(client);
        return judged(made, state).reason_code;
    };
    CHECK(reason("192.168.0.50:40000") == ReasonCode::lb_source_ranges);
    CHECK(reason("10.224.0.223:40000") == ReasonCode::not_served_here);
    state.services[0].allowed_sources.clear();
    CHECK(reason("192.168.0.50:40000") == ReasonCode::not_served_here);
}

TEST_CASE("the Service's own answer is ok") {
    const auto legacy = Backend::iptables_legacy;
    CHECK(verdict(connection(service_address, endpoint), iptables_node(legacy)) == Verdict::ok);
    CHECK(verdict(connection(node_port_address, endpoint), iptables_node(legacy)) == Verdict::ok);
    CHECK(verdict(connection(service_address, endpoint), nftables_node(legacy)) == Verdict::ok);
    CHECK(verdict(connection(node_port_address, endpoint), nftables_node(legacy)) == Verdict::ok);
    // A NodePort's number on another address of the node is no Service's (--nodeport-addresses).
    auto elsewhere = nftables_node(legacy);
    elsewhere.hostports = {hostport(legacy, 30306)};
    CHECK(verdict(connection("127.0.0.1:30306", hostport_pod), elsewhere) == Verdict::hostport);
    auto by_ip_vs = connection(service_address, endpoint);
    by_ip_vs.mechanism = Mechanism::ip_vs;
    CHECK(verdict(by_ip_vs, ipvs_node(Backend::iptables_nft)) == Verdict::ok);
}

TEST_CASE("what ip_vs schedules is never an alarm") {
    auto made = connection(service_address, "10.224.0.99:3306");  // a real server that is gone, or has weight 0
    made.mechanism = Mechanism::ip_vs;
    CHECK(verdict(made, ipvs_node(Backend::iptables_nft)) == Verdict::ok);
    made.original = end("10.96.7.7:80");
    CHECK(verdict(made, ipvs_node(Backend::iptables_nft)) == Verdict::other);  // fwmark, or not of kube-proxy
}

TEST_CASE("a HostPort that leads to an endpoint of the Service does no harm") {
    auto ipvs = ipvs_node(Backend::iptables_nft);
    ipvs.services[0].endpoints = {end(hostport_pod), end(endpoint)};
    const auto finding = judged(connection(service_address, hostport_pod), ipvs);
    CHECK(finding.verdict == Verdict::bypassed);
    REQUIRE(finding.rule);

    // In iptables mode the Service's own rule explains it as well: nobody else did it for sure.
    auto iptables = iptables_node(Backend::iptables_legacy);
    iptables.hostports = {hostport(Backend::iptables_legacy, 30306)};
    iptables.services[1].endpoints = {end(hostport_pod)};
    CHECK(verdict(connection(node_port_address, hostport_pod), iptables) == Verdict::ok);
}

TEST_CASE("the right pod on a wrong port is hijacked") {
    auto state = ipvs_node(Backend::iptables_nft);
    state.services[0].endpoints = {end("10.224.0.222:3307")};
    CHECK(verdict(connection(service_address, hostport_pod), state) == Verdict::hijacked);
}

TEST_CASE("a DNAT without a port keeps the one asked for") {
    auto state = ipvs_node(Backend::iptables_nft);
    state.hostports[0].target.port = 0;
    CHECK(verdict(connection(service_address, "10.224.0.222:3306"), state) == Verdict::hijacked);
    CHECK(verdict(connection(service_address, "10.224.0.222:3307"), state) == Verdict::foreign);
}

TEST_CASE("of two rules that explain it the first one did it") {
    auto state = ipvs_node(Backend::iptables_nft);
    state.hostports.push_back(state.hostports[0]);
    state.hostports[0].chain = "CNI-DN-leaked";
    state.hostports[1].order = 1;
    CHECK(judged(connection(service_address, hostport_pod), state).rule->chain == "CNI-DN-leaked");
}

TEST_CASE("a Service destination nobody's rule explains") {
    const auto state = ipvs_node(Backend::iptables_nft);
    CHECK(verdict(connection(service_address, "10.9.9.9:3306"), state) == Verdict::foreign);
    CHECK(verdict(existing(service_address, "10.9.9.9:3306"), state) == Verdict::stale);
    CHECK(is_alarm(Verdict::foreign));
    CHECK(is_alarm(Verdict::stale));
}

TEST_CASE("a connection that outlived the HostPort rule is stale, to a node address it is other") {
    auto state = ipvs_node(Backend::iptables_nft);
    state.hostports.clear();
    CHECK(verdict(existing(service_address, hostport_pod), state) == Verdict::stale);
    CHECK(verdict(existing("192.168.0.2:3306", hostport_pod), state) == Verdict::other);
}

TEST_CASE("a TCP connection to an endpoint that has left its Service is ok, with a note") {
    for (const auto& state : {iptables_node(Backend::iptables_nft), nftables_node(Backend::iptables_nft)}) {
        auto made = existing(service_address, "10.224.0.225:3306");
        for (const auto tcp_state : {TcpState::established, TcpState::syn_sent, TcpState::syn_recv}) {
            made.tcp_state = tcp_state;
            const auto finding = judged(made, state);
            CHECK(finding.verdict == Verdict::ok);
            CHECK(finding.reason.find("has left the Service") != std::string::npos);
        }
        made.tcp_state.reset();  // not told
        CHECK(verdict(made, state) == Verdict::ok);
        made.protocol = Protocol::sctp;
        auto sctp = state;
        sctp.services[0].protocol = Protocol::sctp;
        CHECK(verdict(made, sctp) == Verdict::ok);
        made.protocol = Protocol::tcp;
        made.existing = false;  // made now, it is led there by somebody
        CHECK(verdict(made, state) == Verdict::foreign);
    }
}

TEST_CASE("it is stale where a HostPort rule or another pod has the target now") {
    auto state = iptables_node(Backend::iptables_nft);
    state.hostports[0].target = end("10.224.0.225:3306");
    state.hostports[0].port = {8080, 8080};
    auto made = existing(service_address, "10.224.0.225:3306");
    made.tcp_state = TcpState::established;
    CHECK(verdict(made, state) == Verdict::stale);
    state.hostports[0].target.port = 0;
    CHECK(verdict(made, state) == Verdict::stale);
    state.hostports[0].target.port = 8080;  // of the pod, but another port
    CHECK(verdict(made, state) == Verdict::ok);
    state.hostports[0].target = end("10.224.0.225:3306");
    state.hostports[0].protocol = Protocol::udp;
    CHECK(verdict(made, state) == Verdict::ok);
    state.hostports.clear();
    CHECK(verdict(made, state) == Verdict::ok);

    state.sandboxes.push_back(sandbox(mysql_c_id, "default", "mysql-a-7", "10.224.0.225"));
    CHECK(verdict(made, state) == Verdict::ok);  // not ready, or on its way out: the pod it was made to
    state.sandboxes.back().pod_namespace = "other";
    CHECK(verdict(made, state) == Verdict::stale);
    CHECK(judged(made, state).reason.find("other/mysql-a-7") != std::string::npos);
    state.sandboxes.back().named_by_itself = true;  // whatever it says of itself
    CHECK(verdict(made, state) == Verdict::ok);
    state.sandboxes.back().named_by_itself = false;
    state.sandboxes.back().pod_namespace = "default";
    state.sandboxes.back().since_ns = 2000;
    made.began_ns = 3000;
    CHECK(verdict(made, state) == Verdict::ok);
    made.began_ns = 1000;  // the pod came after it
    CHECK(verdict(made, state) == Verdict::stale);
}

TEST_CASE("a closed connection is no alarm where its rule is gone; one that a rule there is hijacks stays one") {
    for (std::size_t i = 0; i < tcp_state_names.size(); ++i) {
        const auto tcp_state = static_cast<TcpState>(i);
        INFO(to_string(tcp_state));
        auto state = ipvs_node(Backend::iptables_nft);
        auto made = existing(service_address, hostport_pod);
        made.tcp_state = tcp_state;
        CHECK(verdict(made, state) == Verdict::hijacked);
        state.hostports.clear();
        const bool closing = tcp_state >= TcpState::fin_wait && tcp_state <= TcpState::close;
        CHECK(is_closing(tcp_state) == closing);
        CHECK(verdict(made, state) == (closing ? Verdict::ok : Verdict::stale));
        auto iptables = iptables_node(Backend::iptables_nft);
        iptables.hostports[0].port = {8080, 8080};
        CHECK(verdict(made, iptables) == (closing ? Verdict::ok : Verdict::stale));
    }
}

TEST_CASE("a UDP flow lives as long as there is traffic: where no rule leads it is stale") {
    auto state = iptables_node(Backend::iptables_nft);
    state.services[0].protocol = Protocol::udp;
    auto made = existing(service_address, "10.224.0.225:3306");
    made.protocol = Protocol::udp;
    CHECK(verdict(made, state) == Verdict::stale);
}

TEST_CASE("plain HostPort use, and addresses that exist for Services only") {
    auto state = ipvs_node(Backend::iptables_nft);
    CHECK(verdict(connection("192.168.0.2:3306", hostport_pod), state) == Verdict::hostport);
    CHECK(verdict(connection("127.0.0.1:3306", hostport_pod), state) == Verdict::hostport);
    CHECK(verdict(connection("192.168.0.2:80", "10.9.9.9:80"), state) == Verdict::other);

    state.services[0].port = 80;  // 3306 of its address is nobody's now
    CHECK(verdict(connection(service_address, hostport_pod), state) == Verdict::exposed);
    for (const auto* device : {"kube-dummy-if", "nodelocaldns"}) {
        state.local_addresses.back().device = device;
        CHECK(verdict(connection(service_address, hostport_pod), state) == Verdict::exposed);
    }
    state.local_addresses.back().device = "eth0";
    CHECK(verdict(connection(service_address, hostport_pod), state) == Verdict::hostport);
}

TEST_CASE("a rule without local check takes addresses of the world") {
    auto state = iptables_node(Backend::nftables);
    state.hostports[0].local_only = false;
    const auto finding = judged(connection("203.0.113.5:3306", hostport_pod), state);
    CHECK(finding.verdict == Verdict::other);
    CHECK(finding.reason_code == ReasonCode::no_local_check);
    state.services[0].port = 80;
    CHECK(verdict(connection(service_address, hostport_pod), state) == Verdict::exposed);
}

TEST_CASE("ServiceLB of k3s is a proxy of its own Service only") {
    auto state = ipvs_node(Backend::iptables_nft);
    auto& service = state.services[0];
    auto& pod = state.sandboxes[0];
    service.name = ServiceName{"default", "web", "http"};
    pod.pod_namespace = "kube-system";
    const auto named = [&](const char* name) {
        pod.pod_name = name;
        return verdict(connection(service_address, hostport_pod), state);
    };
    CHECK(named("svclb-web-5d4c1a2b-x7k2p") == Verdict::proxied);
    CHECK(named("svclb-web-x7k2p") == Verdict::proxied);
    CHECK(named("svclb-web-admin-5d4c1a2b-x7k2p") == Verdict::hijacked);
    CHECK(named("svclb-other-5d4c1a2b-x7k2p") == Verdict::hijacked);
    CHECK(named("web-0") == Verdict::hijacked);
    pod.named_by_itself = true;  // anybody can say so
    CHECK(named("svclb-web-x7k2p") == Verdict::hijacked);
    pod.named_by_itself = false;
    pod.pod_namespace = "default";  // old k3s: next to the Service
    CHECK(named("svclb-web-x7k2p") == Verdict::proxied);
    pod.pod_namespace = "elsewhere";
    CHECK(named("svclb-web-x7k2p") == Verdict::hijacked);

    // ip_vs knows no names: a ClusterIP is never ServiceLB's own address.
    service.name.reset();
    pod.pod_namespace = "kube-system";
    CHECK(named("svclb-web-x7k2p") == Verdict::hijacked);
    service.kind = ServiceKind::load_balancer;
    CHECK(named("svclb-web-x7k2p") == Verdict::proxied);
}

TEST_CASE("what could not be read is not guessed") {
    const auto unreadable = [](NodeState state, const char* source) {
        state.sources[source] = {SourceState::unreadable, "Operation not permitted"};
        return state;
    };
    // Is it a Service's destination at all?
    auto plain = ipvs_node(Backend::iptables_nft);
    for (const auto* source : {"ip_vs", "iptables-legacy", "nf_tables"}) {
        INFO(source);
        const auto finding = judged(connection("192.168.0.2:3306", hostport_pod), unreadable(plain, source));
        CHECK(finding.verdict == Verdict::unknown);
        CHECK(finding.unknown_why.find(source) != std::string::npos);
    }
    // Does a rule lead there?
    for (const auto* source : {"iptables-legacy", "nf_tables", "addresses", "routes"}) {
        INFO(source);
        CHECK(verdict(connection(service_address, "10.9.9.9:3306"), unreadable(plain, source)) == Verdict::unknown);
        CHECK(verdict(existing(service_address, "10.9.9.9:3306"), unreadable(plain, source)) == Verdict::unknown);
    }
    // The other family's tables, and names, do not matter.
    for (const auto* source : {"ip6tables-legacy", "cni", "ipset"}) {
        INFO(source);
        CHECK(verdict(connection("192.168.0.2:3306", hostport_pod), unreadable(plain, source)) == Verdict::hostport);
        CHECK(verdict(connection(service_address, "10.9.9.9:3306"), unreadable(plain, source)) == Verdict::foreign);
    }
    // What the kernel was seen doing by a rule that was read stays a hijack.
    CHECK(verdict(connection(service_address, hostport_pod), unreadable(plain, "iptables-legacy")) ==
          Verdict::hijacked);
}

TEST_CASE("rules that were not understood make unknown what depends on them, and nothing else") {
    const auto with_unread = [](NodeState state, const char* chain, Family family = Family::ipv4) {
        state.unread_rules = {{Backend::iptables_legacy, family, chain, "-m bpf"}};
        return state;
    };
    const auto for_ports = [](NodeState state, PortRange ports, Protocol protocol) {
        state.unread_rules.front().ports = {ports};
        state.unread_rules.front().protocol = protocol;
        return state;
    };
    const auto ipvs = ipvs_node(Backend::iptables_nft);
    CHECK(verdict(connection(service_address, "10.9.9.9:3306"), with_unread(ipvs, "CNI-HOSTPORT-DNAT")) ==
          Verdict::unknown);
    CHECK(verdict(connection(service_address, "10.9.9.9:3306"), with_unread(ipvs, "CNI-HOSTPORT-DNAT", Family::ipv6)) ==
          Verdict::foreign);
    const auto docker = with_unread(ipvs, "DOCKER");
    const auto unexplained = connection(service_address, "10.9.9.9:3306");
    CHECK(verdict(unexplained, for_ports(docker, {3000, 4000}, Protocol::tcp)) == Verdict::unknown);
    CHECK(verdict(unexplained, for_ports(docker, {9000, 9010}, Protocol::tcp)) == Verdict::foreign);
    CHECK(verdict(unexplained, for_ports(docker, {3000, 4000}, Protocol::udp)) == Verdict::foreign);
    CHECK(verdict(connection("192.168.0.2:3306", hostport_pod), with_unread(ipvs, "KUBE-SERVICES")) ==
          Verdict::unknown);
    CHECK(verdict(connection("192.168.0.2:3306", hostport_pod),
                  for_ports(with_unread(ipvs, "KUBE-SERVICES"), {80, 80}, Protocol::tcp)) == Verdict::hostport);
    CHECK(verdict(connection("192.168.0.2:3306", hostport_pod), with_unread(ipvs, "services")) == Verdict::unknown);
    CHECK(verdict(connection("192.168.0.2:3306", hostport_pod), with_unread(ipvs, "CNI-HOSTPORT-DNAT")) ==
          Verdict::hostport);
    CHECK(verdict(connection(service_address, hostport_pod), with_unread(ipvs, "KUBE-SVC-X")) == Verdict::hijacked);

    auto iptables = iptables_node(Backend::iptables_nft);
    iptables.hostports = {hostport(Backend::iptables_nft, 30306)};
    CHECK(verdict(connection(node_port_address, hostport_pod), with_unread(iptables, "KUBE-SEP-X")) ==
          Verdict::unknown);
    CHECK(verdict(connection(node_port_address, endpoint), with_unread(iptables, "KUBE-SEP-X")) == Verdict::ok);

    auto nftables = nftables_node(Backend::iptables_nft);
    for (const auto* dispatching : {"services", "service-ips", "service-nodeports", "nodeport-ips",
                                    "no-endpoint-services", "no-endpoint-nodeports", "service-endpoints-check"}) {
        INFO(dispatching);
        CHECK(verdict(connection("192.168.0.2:3306", hostport_pod), with_unread(nftables, dispatching)) ==
              Verdict::unknown);
        CHECK(verdict(connection(service_address, endpoint), with_unread(nftables, dispatching)) == Verdict::ok);
    }
    nftables.hostports = {hostport(Backend::iptables_nft, 30306)};
    for (const auto* of_service : {"service-ULMVA6XW-a/b/tcp/", "local-ULMVA6XW-a/b/tcp/", "external-ULMVA6XW-a/b/tcp/",
                                   "endpoint-ULMVA6XW-a/b/tcp/__10.0.0.1/80"}) {
        INFO(of_service);
        CHECK(verdict(connection(node_port_address, hostport_pod), with_unread(nftables, of_service)) ==
              Verdict::unknown);
        CHECK(verdict(connection(node_port_address, endpoint), with_unread(nftables, of_service)) == Verdict::ok);
    }
}

TEST_CASE("a rule is left over when its sandbox was seen and went, or another one has long had its address") {
    constexpr std::int64_t second = 1'000'000'000;
    auto state = ipvs_node(Backend::iptables_nft);
    state.real_ns = 1000 * second;
    const auto leftover = [&state](std::uint64_t boot_ns = 5000) {
        auto made = connection(service_address, hostport_pod);
        made.boot_ns = boot_ns;
        const auto finding = judged(made, state);
        CHECK(finding.verdict == Verdict::hijacked);
        return finding.leftover;
    };
    const auto held_by = [](const char* id, std::int64_t since_ns, const char* network = "cbr0") {
        auto holder = sandbox(std::string(64, *id), "default", "mysql-c-0", "10.224.0.222");
        holder.since_ns = since_ns;
        holder.network = network;
        return std::vector{holder};
    };
    CHECK(leftover() == LeftOver::no);
    SECTION("another one has its address") {
        state.sandboxes = held_by("c", 984 * second);
        CHECK(leftover() == LeftOver::yes);
        state.sandboxes_complete = false;  // whatever else was not read
        CHECK(leftover() == LeftOver::yes);
        state.sandboxes = held_by("c", 985 * second);  // not for longer than setting up takes
        CHECK(leftover() == LeftOver::perhaps);
        state.sandboxes = held_by("c", 2000 * second);  // a clock that was set back
        CHECK(leftover() == LeftOver::perhaps);
        state.sandboxes = held_by("c", 0);
        CHECK(leftover() == LeftOver::perhaps);
        state.sandboxes = held_by("c", 984 * second, "other");  // networks can have the same addresses
        CHECK(leftover() == LeftOver::no);
    }
    SECTION("of a dump no time is known") {
        state.sandboxes = held_by("c", 984 * second);
        state.real_ns = 0;
        CHECK(leftover() == LeftOver::perhaps);
    }
    SECTION("its own sandbox is there") {
        state.sandboxes.push_back(sandbox("old", "default", "gone-0", "10.224.0.222"));  // left in the cache
        CHECK(leftover() == LeftOver::no);
        state.sandboxes = held_by("c", 984 * second);  // has the address; its own has another one
        state.sandboxes.push_back(sandbox(mysql_b_id, "default", "mysql-b-0", "10.224.0.7"));
        CHECK(leftover() == LeftOver::perhaps);
    }
    SECTION("it was seen and went") {
        state.sandboxes.erase(state.sandboxes.begin());
        state.gone_sandboxes = {{mysql_b_id, 5000}};
        CHECK(leftover() == LeftOver::perhaps);
        CHECK(leftover(5000 + longest_set_up_ns) == LeftOver::perhaps);
        CHECK(leftover(5001 + longest_set_up_ns) == LeftOver::yes);
    }
    SECTION("it is not known: a pod that is being set up looks the same") {
        state.sandboxes.erase(state.sandboxes.begin());
        CHECK(leftover() == LeftOver::perhaps);
        state.sandboxes_complete = false;
        CHECK(leftover() == LeftOver::no);
    }
    SECTION("an empty cache says of nobody that he is gone") {
        state.sandboxes.clear();
        CHECK(leftover() == LeftOver::no);
        state.sandboxes = {sandbox("", "default", "app-1", "10.224.0.223")};  // known by kubelet alone
        CHECK(leftover() == LeftOver::no);
        state.sandboxes = {sandbox("", "default", "mysql-b-0", "10.224.0.222")};  // it may be the rule's own
        CHECK(leftover() == LeftOver::no);
    }
    SECTION("containers of other producers are not in the CNI cache") {
        state.sandboxes.erase(state.sandboxes.begin());
        state.hostports[0].producer = Producer::docker;
        CHECK(leftover() == LeftOver::no);
    }
}

TEST_CASE("pods are named from the CNI cache; a stale rule has no owner") {
    auto state = ipvs_node(Backend::iptables_nft);
    state.index();
    auto finding = judge(connection(service_address, hostport_pod), state);
    add_names(finding, state);
    CHECK(finding.client_pod == Pod{"default", "app-1"});
    CHECK(finding.rewritten_pod == Pod{"default", "mysql-b-0"});
    CHECK(finding.rule_pod == Pod{"default", "mysql-b-0"});

    state.sandboxes = {sandbox(mysql_c_id, "default", "mysql-c-0", "10.224.0.222")};
    state.sandboxes[0].since_ns = 1;
    state.real_ns = 60'000'000'000;
    state.index();
    finding = judge(connection(service_address, hostport_pod), state);
    add_names(finding, state);
    CHECK_FALSE(finding.client_pod);
    CHECK(finding.rewritten_pod == Pod{"default", "mysql-c-0"});
    CHECK_FALSE(finding.rule_pod);
}

TEST_CASE("expected endpoints are cut at the limit, the total is not") {
    auto state = ipvs_node(Backend::iptables_nft);
    state.services[0].endpoints.clear();
    for (std::uint8_t i = 0; i < 40; ++i) {
        state.services[0].endpoints.push_back(
            {make_address(Family::ipv4, std::array<std::uint8_t, 4>{10, 1, 1, i}), 3306});
    }
    const auto finding = judged(connection(service_address, hostport_pod), state);
    CHECK(finding.expected.size() == expected_limit);
    CHECK(finding.expected_total == 40);
}
