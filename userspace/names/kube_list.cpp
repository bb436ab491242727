// SPDX-License-Identifier: GPL-2.0-or-later
#include "names/kube_list.hpp"

#include <fmt/format.h>

#include <chrono>
#include <expected>
#include <memory>
#include <string_view>
#include <utility>

#include "names/kube_objects.hpp"

namespace hptrace {

namespace {

using nlohmann::json;

constexpr int most_restarts = 3;

std::string percent_encoded(std::string_view text) {
    std::string encoded;
    for (const char c : text) {
        const bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' ||
                           c == '.' || c == '_' || c == '~';
        encoded += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
    return encoded;
}

// Do the endpoints know this node's name?
struct NodesSeen {
    bool here = false;
    bool others = false;
};

// A Kubernetes resource, and how an item of it gets into Part.
template <class Part>
struct Resource {
    std::string path;
    std::string query;  // for the first page, ends with '&' if there is any
    std::function<bool(const json&, Part&)> take;
};

template <class Part>
struct Listed {
    Part part;
    std::size_t skipped = 0;
};

template <class Part>
using ListResult = std::expected<Listed<Part>, KubeFailure>;

using Clock = std::chrono::steady_clock;

// All pages, from the first one. Failure 410: the pages are no longer of one moment.
template <class Part>
ListResult<Part> list_once(KubeClient& client, const Resource<Part>& resource, bool cached, Clock::time_point end,
                           const std::stop_token& stop) {
    const std::string_view first = cached ? "resourceVersion=0" : "continue=";
    Listed<Part> listed;
    std::string next;
    while (Clock::now() < end) {
        // The token excludes resourceVersion: it stands for the one of the first page.
        const auto path = fmt::format("{}?{}limit=500&{}{}", resource.path, resource.query,
                                      next.empty() ? first : "continue=", percent_encoded(next));
        const auto body = client.get(path, stop);
        if (!body) {
            return std::unexpected(body.error());
        }
        const auto parsed =
            parse_kube_page(*body, [&](const json& item) { return resource.take(item, listed.part); }, stop);
        if (!parsed) {
            return std::unexpected(KubeFailure{
                .status = 200, .why = fmt::format("{}: {}", resource.path, parsed.error().what), .too_large = false});
        }
        listed.skipped += parsed->skipped;
        if (parsed->next.empty()) {
            listed.part.finish();
            return listed;
        }
        next = parsed->next;
    }
    return std::unexpected(KubeFailure{
        .status = 200, .why = fmt::format("{}: the list does not end in time", resource.path), .too_large = false});
}

template <class Part>
ListResult<Part> list(KubeClient& client, const Resource<Part>& resource, Clock::time_point end,
                      const std::stop_token& stop) {
    // Most API servers give all of their cache at once, whatever the limit. If that is too much, pages from etcd.
    bool cached = true;
    for (int restarts = 0;; ++restarts) {
        auto listed = list_once(client, resource, cached, end, stop);
        if (!listed && listed.error().too_large && cached) {
            cached = false;
            continue;
        }
        if (listed || listed.error().status != 410 || restarts == most_restarts) {
            return listed;
        }
    }
}

bool is_refused(const KubeFailure& failed) {
    return failed.status == 403 || failed.status == 404;
}

class Lister {
public:
    Lister(KubeClient client, std::string node, std::string hint, std::chrono::milliseconds longest)
        : client_(std::move(client)), node_(std::move(node)), hint_(std::move(hint)), longest_(longest) {}

    KubeListing list_all(const std::stop_token& stop) {
        KubeListing listing;
        auto names = std::make_shared<ClusterNames>();
        NodesSeen nodes;
        const Resource<ServiceNames> services{.path = "/api/v1/services", .query = {}, .take = take_service};
        const Resource<NameTable<Pod>> slices{
            .path = "/apis/discovery.k8s.io/v1/endpointslices", .query = {}, .take = [&](const json& item, auto& to) {
                return take_endpoint_slice(
                    item, to, [&](std::string_view node) { (node == node_ ? nodes.here : nodes.others) = true; });
            }};
        const Resource<NodePods> pods{
            .path = "/api/v1/pods",
            .query = fmt::format("fieldSelector={}&", percent_encoded("spec.nodeName=" + node_)),
            .take = take_pod};
        const auto end = Clock::now() + longest_;
        bool any = false;
        const auto add = [&](const auto& resource, auto& to) {
            auto listed = list(client_, resource, end, stop);
            if (listed) {
                to = std::move(listed->part);
                names->skipped += listed->skipped;
                names->left_out += to.left_out();
                any = true;
                return true;
            }
            auto why = listed.error().why;
            if (listed.error().status == 0) {
                why += hint_;
            }
            listing.failures.push_back(std::move(why));
            return is_refused(listed.error());
        };
        if (!add(services, names->services) || !add(slices, names->endpoints) || !add(pods, names->pods)) {
            listing.failures = {listing.failures.back()};
            return listing;
        }
        if (names->skipped > 0) {
            listing.failures.push_back(fmt::format("{} objects were not understood", names->skipped));
        }
        if (names->left_out > 0) {
            listing.failures.push_back(
                fmt::format("{} more than hptrace keeps ({} of one object, {} in all) are left out", names->left_out,
                            most_names_per_object, most_names));
        }
        if (any && listing.failures.empty() && names->pods.size() == 0 && nodes.others && !nodes.here) {
            listing.failures.push_back(
                fmt::format("it knows no pods of node '{}': the variable NODE_NAME tells another name", node_));
        }
        if (any) {
            listing.names = std::move(names);
        }
        return listing;
    }

private:
    KubeClient client_;
    std::string node_;
    std::string hint_;  // where there is no answer
    std::chrono::milliseconds longest_;
};

}  // namespace

Result<KubeLister> make_kube_lister(const KubeConfig& config, const std::string& node, KubeClient::Limits limits) {
    auto client = KubeClient::make(config, limits);
    if (!client) {
        return std::unexpected(client.error());
    }
    const auto hint = config.in_cluster
                          ? fmt::format("; its own Service address {} may be the one a hostPort takes", config.server)
                          : std::string();
    const auto lister = std::make_shared<Lister>(*std::move(client), node, hint, limits.listing);
    return [lister](const std::stop_token& stop) { return lister->list_all(stop); };
}

}  // namespace hptrace
