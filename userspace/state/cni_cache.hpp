// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "base/root_folder.hpp"
#include "state/node_state.hpp"

namespace hptrace {

struct CniCache {
    std::vector<Sandbox> sandboxes;  // one per container; those last written come last
    bool complete = false;           // the folder exists and every file in it was understood
    SourceStatus status;             // unused: no such folder
};

// What libcni remembers of the sandboxes it attached (libcni/api.go, cacheAdd): a file per container and interface,
// removed on DEL. Files that are unreadable or malformed are skipped and make the status unreadable; so does one so
// large that its addresses are not known, but its container and its pod are.
CniCache read_cni_cache(const RootFolder& root, const std::filesystem::path& folder);
// The same of a folder that nothing in it may lead out of; `root` is its root.
CniCache read_cni_cache(const std::filesystem::path& root);

// Differs when read_cni_cache() would find something else: names, sizes and times of the files, none of them opened.
std::uint64_t cni_cache_version(const RootFolder& root, const std::filesystem::path& folder);

}  // namespace hptrace
