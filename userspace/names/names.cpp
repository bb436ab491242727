// SPDX-License-Identifier: GPL-2.0-or-later
#include "names/names.hpp"

#include <utility>

namespace hptrace {

namespace {

std::optional<Pod> pod_of(const Sandbox* sandbox) {
    if (sandbox == nullptr || sandbox->pod_name.empty()) {
        return std::nullopt;
    }
    return Pod{sandbox->pod_namespace, sandbox->pod_name, sandbox->named_by_itself};
}

// What the API says comes before what a pod says of itself.
std::optional<Pod> better(std::optional<Pod> known, const Pod* of_cluster) {
    return (!known || known->by_own_account) && of_cluster != nullptr ? *of_cluster : std::move(known);
}

std::optional<Pod> pod_at(const Address& ip, const NodeState& state, const ClusterNames* cluster) {
    auto pod = pod_of(state.find_sandbox(ip));
    return cluster == nullptr ? pod : better(std::move(pod), cluster->pods.find(ip));
}

// A rule whose sandbox is gone belongs to nobody: the address it leads to may be another pod's by now.
std::optional<Pod> owner_of(const HostPortRule& rule, bool stale, const NodeState& state, const ClusterNames* cluster) {
    if (stale) {
        return std::nullopt;
    }
    auto pod =
        pod_of(rule.container_id.empty() ? state.find_sandbox(rule.target.ip) : state.find_sandbox(rule.container_id));
    return cluster == nullptr ? pod : better(std::move(pod), cluster->pods.find_owner(rule));
}

// What the rules say comes first: it is what is in force.
void name_service(Service& service, const ClusterNames* cluster) {
    if (service.name || cluster == nullptr) {
        return;
    }
    if (const auto* const name = cluster->services.find(service); name != nullptr) {
        service.name = *name;
    }
}

}  // namespace

void add_names(Finding& finding, const NodeState& state, const ClusterNames* cluster) {
    const auto& connection = finding.connection;
    finding.client_pod = pod_at(connection.client.ip, state, cluster);
    finding.rewritten_pod = pod_at(connection.rewritten.ip, state, cluster);
    if (cluster != nullptr) {
        finding.rewritten_pod = better(std::move(finding.rewritten_pod),
                                       cluster->endpoints.find(connection.rewritten, connection.protocol));
    }
    if (finding.rule) {
        finding.rule_pod = owner_of(*finding.rule, finding.leftover == LeftOver::yes, state, cluster);
    }
    if (finding.service) {
        name_service(*finding.service, cluster);
    }
}

void add_names(Conflict& conflict, const NodeState& state, const ClusterNames* cluster) {
    conflict.rule_pod = owner_of(conflict.rule, conflict.leftover == LeftOver::yes, state, cluster);
    name_service(conflict.service, cluster);
}

}  // namespace hptrace
