// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/root_folder.hpp"
#include "state/node_state.hpp"

namespace hptrace {

// A container that was given an address.
struct Reservation {
    Address ip;
    std::string network;
    std::string container_id;
    std::int64_t since_ns = 0;

    auto operator<=>(const Reservation&) const = default;
};

struct HostLocal {
    std::vector<Reservation> reservations;
    SourceStatus status;  // unused: no such folder
};

// What the IPAM plugin host-local remembers: <folder>/<network>/<address>, made when a container gets the address,
// before it has its network, and removed on DEL. It holds "<container id>\r\n<interface>", in old versions the id alone
// (containernetworking/plugins, plugins/ipam/host-local/backend/disk/backend.go: Reserve, ReleaseByID). The names
// of other files there ("lock", "last_reserved_ip.0") are no addresses. An empty one is an address that is being
// reserved, or was when the node went down: it says nothing.
// Files that are unreadable or malformed are skipped and make the status unreadable.
HostLocal read_host_local(const RootFolder& root, const std::filesystem::path& folder);

// Differs when read_host_local() would find something else; no file is opened.
std::uint64_t host_local_version(const RootFolder& root, const std::filesystem::path& folder);

}  // namespace hptrace
