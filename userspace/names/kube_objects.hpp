// SPDX-License-Identifier: GPL-2.0-or-later
// What hptrace takes from the objects of the Kubernetes API. An object at a time: a list can be a hundred megabytes.
#pragma once

#include <cstddef>
#include <functional>
#include <nlohmann/json.hpp>
#include <stop_token>
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

// Far more than the API has: an object may have 1.5 MiB in etcd, an EndpointSlice 1,000 endpoints.
struct KubePageLimits {
    std::size_t depth = 64;              // of lists and objects in each other: else it is no answer of the API
    std::size_t token = 2U << 20U;       // bytes of a text or a number: likewise
    std::size_t item = 8U << 20U;        // bytes of memory for what is kept of an item: else it is skipped
    std::size_t text = 4'096;            // bytes of a text that is kept: a longer one becomes null
    std::size_t stop_interval = 65'536;  // bytes between two looks at the stop token
};

// One page of a list (a v1 List of any kind). `take` gets each item, with the keys that hptrace reads and no others;
// false: it was not understood. The answer is not trusted: what is nested, or long, beyond what the API has is an
// error, an item that takes too much memory is skipped (KubePageLimits). Error: also what is not such a list, or cut
// off, and when it was to stop; what `take` got before is then of no use.
Result<KubePage> parse_kube_page(std::string_view json, const std::function<bool(const nlohmann::json&)>& take,
                                 const std::stop_token& stop = {}, const KubePageLimits& limits = {});

// For each: beyond most_names_per_object, names of one object are left out, and counted.

// core/v1 Service: its ClusterIPs, external and load balancer addresses, NodePorts. A headless one has none of them.
bool take_service(const nlohmann::json& service, ServiceNames& names);

// discovery.k8s.io/v1 EndpointSlice: the endpoints that are pods. `on_node` gets the node of each endpoint.
bool take_endpoint_slice(const nlohmann::json& slice, NameTable<Pod>& names,
                         const std::function<void(std::string_view)>& on_node);

// core/v1 Pod: unless it has finished, or uses the addresses of the node (hostNetwork), which are not its own.
bool take_pod(const nlohmann::json& pod, NodePods& pods);

}  // namespace hptrace
