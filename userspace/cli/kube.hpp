// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/error.hpp"
#include "names/kube_names.hpp"
#include "names/kubeconfig.hpp"

namespace hptrace {

// What the Kubernetes API calls this node: the variable NODE_NAME, which a pod can get from the API (spec.nodeName),
// else the host name, as kubelet does.
std::string kube_node_name();

// Begins to list the cluster; null: no --kubeconfig. Error: see make_kube_lister() and KubeNames::start().
Result<std::unique_ptr<KubeNames>> start_kube_names(const std::optional<KubeConfig>& config, const std::string& node);

// For what has no later: waits until the first list has come or failed, 10 s at most, and says if it has not come.
void await_first_names(KubeNames& names);

}  // namespace hptrace
