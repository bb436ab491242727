// SPDX-License-Identifier: GPL-2.0-or-later
// What hptrace takes from the objects of the Kubernetes API. An object at a time: a list can be a hundred megabytes.
#pragma once

#include <cstddef>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "names/cluster_names.hpp"

namespace hptrace {

struct KubePage {
    std::string next;  // the token of the next page; empty: this is the last one
    std::size_t items = 0;
    std::size_t skipped = 0;  // items that were not understood
};

// One page of a list (a v1 List of any kind). `take` gets each item, without what hptrace never needs; false: it was
// not understood. Error: not such a list, or cut off; what `take` got before is then of no use.
Result<KubePage> parse_kube_page(std::string_view json, const std::function<bool(const nlohmann::json&)>& take);

// core/v1 Service: its ClusterIPs, external and load balancer addresses, NodePorts. A headless one has none of them.
bool take_service(const nlohmann::json& service, ServiceNames& names);

// discovery.k8s.io/v1 EndpointSlice: the endpoints that are pods. `on_node` gets the node of each endpoint.
bool take_endpoint_slice(const nlohmann::json& slice, NameTable<Pod>& names,
                         const std::function<void(std::string_view)>& on_node);

// core/v1 Pod: unless it has finished, or uses the addresses of the node (hostNetwork), which are not its own.
bool take_pod(const nlohmann::json& pod, NodePods& pods);

}  // namespace hptrace
