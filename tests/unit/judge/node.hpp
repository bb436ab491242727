// SPDX-License-Identifier: GPL-2.0-or-later
// The node of the incident, to be changed by each test: Service mysql-a 10.96.0.10:3306 with one endpoint on another
// node, and pod default/mysql-b-0 with hostPort 3306 (portmap).
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "judge/judge.hpp"

namespace hptrace::test {

inline Address ip(const char* text) {
    return *parse_address(text);
}
inline Endpoint end(const char* text) {
    return *parse_endpoint(text);
}

inline const std::string mysql_b_id(64, 'b');
inline const std::string mysql_c_id(64, 'c');
inline const char* const mysql_b_chain = "CNI-DN-bd8e9ce301851b7745b41";

inline Service cluster_ip(ServiceProxy proxy) {
    Service service;
    service.kind = ServiceKind::cluster_ip;
    service.proxy = proxy;
    service.ip = ip("10.96.0.10");
    service.port = 3306;
    service.endpoints = {end("10.224.0.224:3306")};
    if (proxy != ServiceProxy::ipvs) {
        service.name = ServiceName{"default", "mysql-a", "mysql"};
        service.backend = proxy == ServiceProxy::iptables ? Backend::iptables_legacy : Backend::nftables;
    }
    return service;
}

inline Service node_port(ServiceProxy proxy) {
    auto service = cluster_ip(proxy);
    service.kind = ServiceKind::node_port;
    service.port = 30306;
    service.ip.reset();
    if (proxy != ServiceProxy::iptables) {
        service.ip = ip("192.168.0.2");
    }
    return service;
}

inline HostPortRule hostport(Backend backend, std::uint16_t port = 3306) {
    HostPortRule rule;
    rule.backend = backend;
    rule.table = "nat";
    rule.chain = mysql_b_chain;
    rule.entry_chain = "CNI-HOSTPORT-DNAT";
    rule.port = {port, port};
    rule.target = end("10.224.0.222:3306");
    rule.network = "cbr0";
    rule.container_id = mysql_b_id;
    rule.text = "-A CNI-DN-bd8e9ce301851b7745b41 -p tcp -m tcp --dport 3306 -j DNAT --to-destination 10.224.0.222:3306";
    return rule;
}

inline Sandbox sandbox(std::string id, std::string ns, std::string name, const char* address) {
    return {std::move(id), "cbr0", std::move(ns), std::move(name), "", {ip(address)}};
}

inline LocalAddress local(const char* prefix, std::string device) {
    return {*parse_prefix(prefix), std::move(device)};
}

// KUBE-SERVICES stands first unless `hostport_first`.
inline NatTable nat(Backend backend, bool ipvs_accept, bool hostport_first = false) {
    const JumpOrder order = hostport_first ? JumpOrder{1, 0} : JumpOrder{0, 1};
    return {backend, Family::ipv4, order, order, ipvs_accept};
}

// kube-proxy in ipvs mode in iptables-legacy; the HostPort rule in `backend`.
inline NodeState ipvs_node(Backend backend) {
    NodeState state;
    state.node = "node-2";
    state.boot_ns = 1000;
    state.proxy = ProxyMode::ipvs;
    state.services = {cluster_ip(ServiceProxy::ipvs), node_port(ServiceProxy::ipvs)};
    state.hostports = {hostport(backend)};
    state.nat_tables = {nat(Backend::iptables_legacy, true)};
    if (backend != Backend::iptables_legacy) {
        state.nat_tables.push_back({backend, Family::ipv4, {-1, 0}, {-1, 0}, false});
    }
    state.local_addresses = {local("127.0.0.0/8", "lo"), local("192.168.0.2/32", "eth0"),
                             local("10.96.0.10/32", "kube-ipvs0")};
    state.sandboxes = {sandbox(mysql_b_id, "default", "mysql-b-0", "10.224.0.222"),
                       sandbox(std::string(64, 'a'), "default", "app-1", "10.224.0.223")};
    state.sandboxes_complete = true;
    return state;
}

// kube-proxy in iptables mode in iptables-legacy; its ClusterIPs are not local.
inline NodeState iptables_node(Backend backend) {
    auto state = ipvs_node(backend);
    state.proxy = ProxyMode::iptables;
    state.services = {cluster_ip(ServiceProxy::iptables), node_port(ServiceProxy::iptables)};
    state.nat_tables = {nat(Backend::iptables_legacy, false)};
    state.local_addresses.pop_back();
    return state;
}

// kube-proxy in nftables mode; the HostPort rule in `backend`.
inline NodeState nftables_node(Backend backend) {
    auto state = iptables_node(backend);
    state.proxy = ProxyMode::nftables;
    state.services = {cluster_ip(ServiceProxy::nftables), node_port(ServiceProxy::nftables)};
    state.nat_tables = {{backend, Family::ipv4, {-1, 0}, {-1, 0}, false}};
    return state;
}

inline Connection connection(const char* original, const char* rewritten) {
    Connection made;
    made.client = end("10.224.0.223:37266");
    made.original = end(original);
    made.rewritten = end(rewritten);
    made.boot_ns = 5000;
    return made;
}

inline Connection existing(const char* original, const char* rewritten) {
    auto made = connection(original, rewritten);
    made.existing = true;
    return made;
}

inline Finding judged(const Connection& made, NodeState state) {
    state.index();
    return judge(made, state);
}

}  // namespace hptrace::test
