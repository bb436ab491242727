// SPDX-License-Identifier: GPL-2.0-or-later
// Folders of small files that other programs keep on the node and change at any time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/file.hpp"
#include "base/fingerprint.hpp"
#include "base/root_folder.hpp"
#include "state/node_state.hpp"

namespace hptrace {

// One reading of such folders. How much it reads is bounded as a whole, whoever fills them: a node that leaks files of
// pods that have ended has some ten thousand, of a few KiB each.
// Errors do not say of which file or folder they are.
class NodeFiles {
public:
    static constexpr std::size_t most_files = 100'000;
    static constexpr std::size_t most_bytes = 256UL * 1024 * 1024;

    // `root` must live as long.
    explicit NodeFiles(const RootFolder& root) : root_(root) {}

    // The names of what is in it, sorted. Nothing: no such folder.
    Result<std::optional<std::vector<std::string>>> names(const std::filesystem::path& folder);
    // A file's first `limit` bytes. Nothing: not a regular file, or there is none (any more).
    Result<std::optional<FileContent>> read(const std::filesystem::path& file, std::size_t limit);

    // Adds the names of what is in it, or why they cannot be had, and returns them.
    std::vector<std::string> add_folder_version(const std::filesystem::path& folder, Fingerprint& print);
    // Adds what tells that a file would read differently: whether it is there, its size and times. It is not opened.
    void add_file_version(const std::filesystem::path& file, Fingerprint& print) const;
    // When the folder's list of files last changed, in nanoseconds (mtime); 0: no such folder.
    [[nodiscard]] std::uint64_t folder_time(const std::filesystem::path& folder) const;

private:
    const RootFolder& root_;
    std::size_t files_left_ = most_files;
    std::size_t bytes_left_ = most_bytes;
};

// What could not be understood of a folder.
class Problems {
public:
    // "name: why"
    void add(std::string problem);
    [[nodiscard]] bool empty() const { return count_ == 0; }
    // Without a problem: it is in use. `folder`: its name for people.
    [[nodiscard]] SourceStatus status(const std::filesystem::path& folder) const;

private:
    std::size_t count_ = 0;
    std::string first_;  // by name
};

// That of a folder whose files cannot even be listed.
SourceStatus unreadable(const std::filesystem::path& folder, const Error& error);

}  // namespace hptrace
