// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/sandboxes.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace hptrace {

namespace {

using Pods = std::vector<const KubeletPod*>;

// Those of one container are one sandbox. Oldest first.
std::vector<Sandbox> reserved_sandboxes(std::span<const Reservation> reservations,
                                        const std::set<std::string_view>& known) {
    std::map<std::string_view, Sandbox> by_id;
    for (const auto& reservation : reservations) {
        if (known.contains(reservation.container_id)) {
            continue;
        }
        auto& sandbox = by_id[reservation.container_id];
        sandbox.container_id = reservation.container_id;
        sandbox.network = reservation.network;
        sandbox.ips.push_back(reservation.ip);
        sandbox.since_ns = std::max(sandbox.since_ns, reservation.since_ns);
    }
    std::vector<Sandbox> sandboxes;
    sandboxes.reserve(by_id.size());
    for (auto& [id, sandbox] : by_id) {
        sandboxes.push_back(std::move(sandbox));
    }
    std::ranges::stable_sort(sandboxes, {}, &Sandbox::since_ns);
    return sandboxes;
}

void take_lost_addresses(std::span<const Reservation> reservations, std::vector<Sandbox>& cached) {
    std::map<std::pair<std::string_view, Address>, const Reservation*> holders;
    for (const auto& reservation : reservations) {
        holders.emplace(std::pair(std::string_view(reservation.network), reservation.ip), &reservation);
    }
    for (auto& sandbox : cached) {
        std::erase_if(sandbox.ips, [&](const Address& ip) {
            const auto holder = holders.find({sandbox.network, ip});
            return holder != holders.end() && holder->second->container_id != sandbox.container_id &&
                   holder->second->since_ns > sandbox.since_ns;
        });
    }
}

// Addresses that host-local gave to more than one container: in networks of their own they can be the same.
std::set<Address> contested_addresses(std::span<const Reservation> reservations) {
    std::map<Address, std::string_view> holders;
    std::set<Address> contested;
    for (const auto& reservation : reservations) {
        const auto [holder, is_new] = holders.try_emplace(reservation.ip, reservation.container_id);
        if (!is_new && holder->second != reservation.container_id) {
            contested.insert(reservation.ip);
        }
    }
    return contested;
}

// A node has a range of addresses to itself, hardly ever larger than this.
bool gives_out_addresses_around(std::span<const Reservation> reservations, const Address& ip) {
    const std::uint8_t length = ip.family == Family::ipv4 ? 24 : 64;
    return std::ranges::any_of(reservations, [range = Prefix{.address = ip, .length = length}](
                                                 const auto& reservation) { return range.contains(reservation.ip); });
}

// The only one whose hosts file is that new.
const KubeletPod* only_since(const Pods& pods, std::int64_t since_ns) {
    const auto is_new = [&](const KubeletPod* pod) { return pod->written_ns >= since_ns; };
    return std::ranges::count_if(pods, is_new) == 1 ? *std::ranges::find_if(pods, is_new) : nullptr;
}

// The cache names this pod's sandbox, and so has its addresses: what it says of others is not true.
class Cached {
public:
    explicit Cached(std::span<const Sandbox> sandboxes) {
        for (const auto& sandbox : sandboxes) {
            if (!sandbox.pod_uid.empty()) {
                uids_.insert(sandbox.pod_uid);
            } else if (!sandbox.pod_name.empty()) {
                names_.emplace(sandbox.pod_namespace, sandbox.pod_name);
            }
        }
    }

    [[nodiscard]] bool knows(const KubeletPod& pod) const {
        return uids_.contains(pod.uid) || names_.contains({pod.ns, pod.name});
    }

private:
    std::set<std::string> uids_;
    std::set<std::pair<std::string, std::string>> names_;
};

Sandbox of_kubelet(const KubeletPod& pod) {
    return {.container_id = {},
            .network = {},
            .pod_namespace = pod.ns,
            .pod_name = pod.name,
            .pod_uid = pod.uid,
            .ips = {},
            .since_ns = pod.written_ns,
            .named_by_itself = true};
}

void add_names(std::span<const Reservation> reservations, std::span<const KubeletPod> pods,
               std::vector<Sandbox>& sandboxes) {
    std::map<Address, Pods> claims;
    const Cached cached(sandboxes);
    for (const auto& pod : pods) {
        if (cached.knows(pod)) {
            continue;
        }
        for (const auto& ip : pod.ips) {
            claims[ip].push_back(&pod);
        }
    }
    std::unordered_map<Address, std::size_t> holders;
    for (std::size_t i = 0; i < sandboxes.size(); ++i) {
        for (const auto& ip : sandboxes[i].ips) {
            holders.insert_or_assign(ip, i);
        }
    }
    const auto contested = contested_addresses(reservations);
    std::map<std::size_t, std::set<const KubeletPod*>> of_containers;
    std::map<const KubeletPod*, Sandbox> without_container;
    for (const auto& [ip, claimants] : claims) {
        const auto holder = holders.find(ip);
        if (holder == holders.end()) {
            const auto* const pod = claimants.front();
            if (claimants.size() == 1 && !gives_out_addresses_around(reservations, ip)) {
                without_container.try_emplace(pod, of_kubelet(*pod)).first->second.ips.push_back(ip);
            }
        } else if (const auto* const pod = only_since(claimants, sandboxes[holder->second].since_ns);
                   pod != nullptr && !contested.contains(ip) && sandboxes[holder->second].pod_name.empty()) {
            of_containers[holder->second].insert(pod);
        }
    }
    for (const auto& [index, names] : of_containers) {
        if (names.size() == 1) {
            const auto& pod = **names.begin();
            sandboxes[index].pod_namespace = pod.ns;
            sandboxes[index].pod_name = pod.name;
            sandboxes[index].pod_uid = pod.uid;
            sandboxes[index].named_by_itself = true;
        }
    }
    for (auto& [pod, sandbox] : without_container) {
        sandboxes.push_back(std::move(sandbox));
    }
}

}  // namespace

std::vector<Sandbox> put_together(std::vector<Sandbox> cached, std::span<const Reservation> reservations,
                                  std::span<const KubeletPod> pods) {
    std::set<std::string_view> known;
    for (const auto& sandbox : cached) {
        known.insert(sandbox.container_id);
    }
    auto sandboxes = reserved_sandboxes(reservations, known);
    take_lost_addresses(reservations, cached);
    // Last: of two with the same address the later one counts.
    std::ranges::move(cached, std::back_inserter(sandboxes));
    add_names(reservations, pods, sandboxes);
    return sandboxes;
}

}  // namespace hptrace
