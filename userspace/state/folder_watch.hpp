// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <utility>
#include <vector>

#include "base/fd.hpp"
#include "base/root_folder.hpp"
#include "state/node_root.hpp"

namespace hptrace {

struct WatchedFolder {
    std::filesystem::path path;  // below the root
    bool subfolders = false;     // those in it are watched as well, one level deep
};

// Tells by inotify whether it is worth looking at folders again. What a file holds is not its business, nor is it
// what another machine does to a file system that both use.
class FolderWatch {
public:
    enum class News : std::uint8_t {
        none,    // nothing has changed since watch()
        some,    // something has, or may have: events were lost
        unknown  // a folder cannot be watched: look, nothing will tell
    };

    // Watches nothing yet. Nothing below the root leads out of it; see RootFolder.
    FolderWatch(NodeRoot root, std::vector<WatchedFolder> folders)
        : root_(std::move(root)), folders_(std::move(folders)) {}

    // From now on. Call it before each look, then nothing slips in between.
    void watch();
    // Never waits, and reads no folder. Folders that appear, go or are replaced, by a mount too, are found by their
    // identity.
    [[nodiscard]] News news();

private:
    // Device and inode, or why it has none.
    struct Identity {
        int error = 0;
        dev_t device = 0;
        ino_t inode = 0;
        bool operator==(const Identity&) const = default;
    };

    [[nodiscard]] static Identity identify(const RootFolder& root, const std::filesystem::path& path);
    [[nodiscard]] std::vector<Identity> identify_all(const Result<RootFolder>& root) const;
    // False: events are lost or cannot be had.
    [[nodiscard]] bool add(const RootFolder& root, const WatchedFolder& folder) const;
    [[nodiscard]] bool add_one(const RootFolder& root, const std::filesystem::path& path, std::uint32_t events) const;
    // Takes what there is; was there anything?
    [[nodiscard]] News take_events() const;

    NodeRoot root_;
    std::vector<WatchedFolder> folders_;
    std::vector<Identity> watched_;
    Fd inotify_;
    News news_ = News::unknown;
};

}  // namespace hptrace
