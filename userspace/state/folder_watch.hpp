// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <utility>
#include <vector>

#include "base/fd.hpp"

namespace hptrace {

struct WatchedFolder {
    std::filesystem::path path;
    bool subfolders = false;  // those in it are watched as well, one level deep
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

    // Watches nothing yet.
    explicit FolderWatch(std::vector<WatchedFolder> folders) : folders_(std::move(folders)) {}

    // From now on. Call it before each look, then nothing slips in between.
    void watch();
    // Never waits, and opens nothing. Folders that appear, go or are replaced, by a mount too, are found by their
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

    [[nodiscard]] static Identity identify(const std::filesystem::path& path);
    [[nodiscard]] std::vector<Identity> identify_all() const;
    // False: events are lost or cannot be had.
    [[nodiscard]] bool add(const WatchedFolder& folder) const;
    [[nodiscard]] bool add_subfolders(const std::filesystem::path& path) const;
    [[nodiscard]] bool add_one(const std::filesystem::path& path) const;
    // Takes what there is; was there anything?
    [[nodiscard]] News take_events() const;

    std::vector<WatchedFolder> folders_;
    std::vector<Identity> watched_;
    Fd inotify_;
    News news_ = News::unknown;
};

}  // namespace hptrace
