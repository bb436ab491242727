// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <vector>

#include "state/ipset.hpp"
#include "state/ipvs.hpp"
#include "state/kube_sets.hpp"
#include "state/nft_limits.hpp"
#include "state/node_root.hpp"
#include "state/node_state.hpp"
#include "state/pod_source.hpp"
#include "state/ruleset.hpp"
#include "state/versioned.hpp"

namespace hptrace {

// How each source of the node state is read, and what tells that it changed. All of the calling thread's network
// namespace. A reader gets the version it knows and does as little as tells whether that is still true.
struct NodeSources {
    template <class T>
    using Reader = std::function<ReadIfNew<T>(std::optional<std::uint64_t> known)>;

    Reader<std::vector<RuleTable>> legacy_ipv4;  // fingerprint of the tables: nothing cheaper tells
    Reader<std::vector<RuleTable>> legacy_ipv6;  // the same
    Reader<std::vector<RuleTable>> nf_tables;    // generation (NftReader)
    Reader<std::vector<VirtualServer>> ip_vs;    // fingerprint
    // fingerprint, of the answer
    std::function<ReadIfNew<std::vector<IpSet>>(const KubeSetQuestion&, std::optional<std::uint64_t> known)> ipset;
    Reader<std::vector<LocalAddress>> routes;   // fingerprint
    std::function<bool()> routes_changed;       // announced since the last call; without announcements always true
    std::function<std::optional<Pods>()> pods;  // PodSource::news
    std::function<bool()> pods_announced;       // PodSource::announced
    // What nf_tables gave, once it is no longer needed: reading it again then costs what has changed.
    std::function<void(std::vector<RuleTable>)> give_back_nf_tables = [](std::vector<RuleTable> /*tables*/) {};
    std::function<void()> rest_nf_tables = [] {};  // NftReader::rest
};

// The node's own. The network namespace of the calling thread and the folders are listened to from now on; the
// functions must be called by a thread that is in it. Nothing is asked of a subsystem that is not present.
// `stop`: ends a long reading of nf_tables early, with ECANCELED.
NodeSources native_sources(PodFolders pods, std::stop_token stop = {});
// The same for a namespace that is entered for each reading and left again, or read only once. Nothing of it is
// listened to or kept open: a socket would keep it alive. `nft_limits`: foreign_nft_limits if it is not the node's.
NodeSources visited_sources(PodFolders pods, NftLimits nft_limits = own_nft_limits, std::stop_token stop = {});

}  // namespace hptrace
