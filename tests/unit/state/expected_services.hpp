// SPDX-License-Identifier: GPL-2.0-or-later
// The Services of a cluster as the kube-proxy of a dump serves them: what tests/dumps says of both.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "state/node_state.hpp"

namespace hptrace {

// cluster: kube-cluster.json of tests/dumps.
inline Address address_of_pod(const nlohmann::json& cluster, const std::string& pod, Family family) {
    return parse_address(cluster["pods"][pod][family == Family::ipv4 ? 0 : 1].get<std::string>()).value();
}

// What a test of Services compares, as one line.
inline std::string described(const Service& service) {
    std::string text = fmt::format(
        "{}/{}:{} {} {} {}:{}/{}", service.name ? service.name->ns : "", service.name ? service.name->name : "",
        service.name ? service.name->port : "", to_string(service.kind), service.family == Family::ipv4 ? 4 : 6,
        service.ip ? to_string(*service.ip) : "*", service.port, to_string(service.protocol));
    for (const auto& endpoint : service.endpoints) {
        text += ' ' + to_string(endpoint);
    }
    return text + (service.persistent ? " persistent" : "") + (service.external_local ? " external-local" : "");
}

// What of a kube-proxy decides how it serves the same Services.
struct KubeProxy {
    std::string mode;
    int minor = 0;  // 28 of v1.28.15
    std::set<Family> families{Family::ipv4, Family::ipv6};
};
inline KubeProxy kube_proxy_of(const nlohmann::json& provenance) {
    KubeProxy proxy{.mode = provenance["mode"],
                    .minor = std::stoi(provenance["kubernetes"].get<std::string>().substr(3))};
    if (provenance["kube_proxy"].contains("families")) {
        proxy.families.clear();
        for (const int family : provenance["kube_proxy"]["families"]) {
            proxy.families.insert(family == 4 ? Family::ipv4 : Family::ipv6);
        }
    }
    return proxy;
}

// The Services of kube-cluster.json as kube-proxy serves them on the node that was dumped.
class Expected {
public:
    Expected(const nlohmann::json& cluster, KubeProxy proxy) : cluster_(cluster), proxy_(std::move(proxy)) {
        for (const auto& service : cluster["services"]) {
            add(service);
        }
    }
    [[nodiscard]] const std::vector<std::string>& lines() const { return lines_; }

private:
    void add(const nlohmann::json& service) {
        const auto& object = service["object"];
        for (const auto& port : object["ports"]) {
            for (const auto& text : object["clusterIPs"]) {
                if (const auto ip = parse_address(text.get<std::string>())) {  // else headless
                    add(service, port, ServiceKind::cluster_ip, ip->family, ip);
                    if (port.contains("nodePort")) {
                        add(service, port, ServiceKind::node_port, ip->family, node_port_address(ip->family));
                    }
                }
            }
            for (const auto& text :
                 object.value("externalIPs", service.value("external_ips", nlohmann::json::array()))) {
                const auto ip = parse_address(text.get<std::string>()).value();
                add(service, port, ServiceKind::external_ip, ip.family, ip);
            }
            for (const auto& text : service["load_balancer"]) {
                const auto ip = parse_address(text.get<std::string>()).value();
                // The rules of nftables mode tell such an address from an external one only by its source ranges.
                const bool as_external = nftables() && !object.contains("loadBalancerSourceRanges");
                add(service, port, as_external ? ServiceKind::external_ip : ServiceKind::load_balancer, ip.family, ip);
            }
        }
        if (object.contains("healthCheckNodePort") && proxy_.minor >= 21 && !nftables()) {  // no rule for it before
            for (const auto family : proxy_.families) {
                Service health;
                health.kind = ServiceKind::health_check_node_port;
                health.family = family;
                health.port = object["healthCheckNodePort"];
                health.name = {"default", service["name"], ""};
                lines_.push_back(described(health));
            }
        }
    }

    [[nodiscard]] bool nftables() const { return proxy_.mode == "nftables"; }

    // nftables mode serves NodePorts on the node's own address only, unless it is told otherwise.
    [[nodiscard]] std::optional<Address> node_port_address(Family family) const {
        const auto& text = cluster_["nodes"]["node"][family == Family::ipv4 ? 0 : 1];
        return nftables() ? parse_address(text.get<std::string>()) : std::nullopt;
    }

    void add(const nlohmann::json& service, const nlohmann::json& port, ServiceKind kind, Family family,
             std::optional<Address> ip) {
        if (!proxy_.families.contains(family)) {
            return;
        }
        Service expected;
        expected.kind = kind;
        expected.family = family;
        expected.ip = ip;
        expected.port = port[kind == ServiceKind::node_port ? "nodePort" : "port"];
        expected.protocol = parse_protocol(port["protocol"].get<std::string>()).value();
        expected.name = {"default", service["name"], port.value("name", "")};
        const auto& object = service["object"];
        // 1.21 needs a feature gate for internalTrafficPolicy, 1.20 does not know it.
        bool here_only = kind == ServiceKind::cluster_ip && proxy_.minor >= 22 &&
                         object.value("internalTrafficPolicy", "Cluster") == "Local";
        const std::vector<std::string> pods = service["endpoints"];
        const auto is_here = [](const std::string& pod) { return !pod.starts_with("remote"); };
        if (proxy_.mode == "ipvs" && kind == ServiceKind::load_balancer && std::ranges::any_of(pods, is_here)) {
            // With externalTrafficPolicy Local the virtual server has no others; without any here it falls back to all.
            here_only = here_only || object.value("externalTrafficPolicy", "Cluster") == "Local";
        }
        for (const std::string& pod : pods) {
            if (!here_only || is_here(pod)) {
                expected.endpoints.push_back({address_of_pod(cluster_, pod, family), port["targetPort"]});
            }
        }
        std::ranges::sort(expected.endpoints);
        expected.persistent = object.value("sessionAffinity", "None") == "ClientIP" && !expected.endpoints.empty();
        expected.external_local =
            kind != ServiceKind::cluster_ip && object.value("externalTrafficPolicy", "Cluster") == "Local";
        lines_.push_back(described(expected));
    }

    const nlohmann::json& cluster_;
    KubeProxy proxy_;
    std::vector<std::string> lines_;
};

}  // namespace hptrace
