// SPDX-License-Identifier: GPL-2.0-or-later
// Folders of small files that other programs keep on the node and change at any time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "base/fingerprint.hpp"
#include "state/node_state.hpp"

namespace hptrace {

struct NodeFile {
    std::string content;
    std::int64_t written_ns = 0;  // mtime
};

// Nothing: not a regular file, or there is none (any more). Error: not readable, or far larger than such files are.
Result<std::optional<NodeFile>> read_node_file(const std::filesystem::path& path);

// The names of what is in it, sorted. Nothing: no such folder.
Result<std::optional<std::vector<std::string>>> read_node_folder(const std::filesystem::path& folder);

// Adds the names of what is in it, or why they cannot be had, and returns them.
std::vector<std::string> add_folder_version(const std::filesystem::path& folder, Fingerprint& print);

// Adds what tells that a file would read differently: whether it is there, its size and times. It is not opened.
void add_file_version(const std::filesystem::path& path, Fingerprint& print);

// When the folder's list of files last changed, in nanoseconds (mtime); 0: no such folder.
std::uint64_t folder_time(const std::filesystem::path& folder);

// That of a folder of which this could not be understood: "name: why" each. None: it is in use.
SourceStatus status_with(std::vector<std::string> problems, const std::filesystem::path& folder);

}  // namespace hptrace
