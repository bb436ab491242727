// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "state/node_state.hpp"

namespace hptrace {

struct CniCache {
    std::vector<Sandbox> sandboxes;  // one per container; those last written come last
    bool complete = false;           // the folder exists and every file in it was understood
    SourceStatus status;             // unused: no such folder
};

// What libcni remembers of the sandboxes it attached (libcni/api.go, cacheAdd): a file per container and interface,
// removed on DEL. Files that are too large, unreadable or malformed are skipped and make the status unreadable.
CniCache read_cni_cache(const std::filesystem::path& folder);

// Differs when read_cni_cache() would find something else: names, sizes and times of the files, none of them opened.
std::uint64_t cni_cache_version(const std::filesystem::path& folder);

// One file: kind cniCacheV1, or the bare result libcni wrote before 0.8. `file_name` ("<network>-<container>-<if>")
// says what the content does not. Loopback addresses are left out. Error: not such a file.
Result<Sandbox> parse_cni_result(std::string_view json, std::string_view file_name);

}  // namespace hptrace
