// SPDX-License-Identifier: GPL-2.0-or-later
#include "names/names.hpp"

namespace hptrace {

namespace {

std::optional<Pod> pod_of(const Sandbox* sandbox) {
    if (sandbox == nullptr || sandbox->pod_name.empty()) {
        return std::nullopt;
    }
    return Pod{sandbox->pod_namespace, sandbox->pod_name};
}

// A rule whose sandbox is gone belongs to nobody: the address it leads to may be another pod's by now.
std::optional<Pod> owner_of(const HostPortRule& rule, bool stale, const NodeState& state) {
    if (stale) {
        return std::nullopt;
    }
    return pod_of(rule.container_id.empty() ? state.find_sandbox(rule.target.ip)
                                            : state.find_sandbox(rule.container_id));
}

}  // namespace

void add_names(Finding& finding, const NodeState& state) {
    finding.client_pod = pod_of(state.find_sandbox(finding.connection.client.ip));
    finding.rewritten_pod = pod_of(state.find_sandbox(finding.connection.rewritten.ip));
    if (finding.rule) {
        finding.rule_pod = owner_of(*finding.rule, finding.rule_stale, state);
    }
}

void add_names(Conflict& conflict, const NodeState& state) {
    conflict.rule_pod = owner_of(conflict.rule, conflict.rule_stale, state);
}

}  // namespace hptrace
