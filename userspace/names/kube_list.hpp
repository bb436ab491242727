// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "names/cluster_names.hpp"
#include "names/kube_client.hpp"
#include "names/kubeconfig.hpp"

namespace hptrace {

// What one look at the whole cluster brought.
struct KubeListing {
    ClusterNamesPtr names;              // null: nothing
    std::vector<std::string> failures;  // what is missing of it, or why there is nothing; a line each
};

// Lists the cluster when called; returns soon when asked to stop.
using KubeLister = std::function<KubeListing(const std::stop_token&)>;

// Lists the Services, the EndpointSlices and the pods of `node`, from the API's cache (resourceVersion=0: a list costs
// etcd nothing), page by page if that is too large an answer. What the API refuses (403, 404) is missing; anything else
// that fails makes the whole of it fail. Error: see KubeClient::make().
Result<KubeLister> make_kube_lister(const KubeConfig& config, const std::string& node,
                                    KubeClient::Limits limits = KubeClient::Limits());

}  // namespace hptrace
