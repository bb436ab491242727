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
    CHECK_FALSE(finding.rule_stale);
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
    const auto ipvs = ipvs_node(Backend::iptables_nft);
    CHECK(verdict(connection(service_address, "10.9.9.9:3306"), with_unread(ipvs, "CNI-HOSTPORT-DNAT")) ==
          Verdict::unknown);
    CHECK(verdict(connection(service_address, "10.9.9.9:3306"), with_unread(ipvs, "CNI-HOSTPORT-DNAT", Family::ipv6)) ==
          Verdict::foreign);
    CHECK(verdict(connection("192.168.0.2:3306", hostport_pod), with_unread(ipvs, "KUBE-SERVICES")) ==
          Verdict::unknown);
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

TEST_CASE("a rule is stale when its sandbox is gone or its address is another's") {
    const auto stale = [](const NodeState& state) {
        const auto finding = judged(connection(service_address, hostport_pod), state);
        CHECK(finding.verdict == Verdict::hijacked);
        return finding.rule_stale;
    };
    auto state = ipvs_node(Backend::iptables_nft);
    CHECK_FALSE(stale(state));
    state.sandboxes.push_back(sandbox("old", "default", "gone-0", "10.224.0.222"));  // left in the cache
    CHECK_FALSE(stale(state));
    state.sandboxes = {sandbox(mysql_c_id, "default", "mysql-c-0", "10.224.0.222")};
    CHECK(stale(state));
    state.sandboxes_complete = false;
    CHECK(stale(state));
    state.sandboxes.clear();
    CHECK_FALSE(stale(state));                                                // not known
    state.sandboxes = {sandbox("", "default", "mysql-b-0", "10.224.0.222")};  // by kubelet: it may be the rule's own
    CHECK_FALSE(stale(state));
    state.sandboxes.clear();
    state.sandboxes_complete = true;
    CHECK(stale(state));
    state.hostports[0].producer = Producer::docker;  // its ids are not in the CNI cache
    CHECK_FALSE(stale(state));
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
