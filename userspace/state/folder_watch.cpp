// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/folder_watch.hpp"

#include <sys/inotify.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <system_error>

namespace hptrace {

namespace {

// Files that come, go, are written or get other rights, and the end of the folder itself.
constexpr std::uint32_t changes =
    IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MODIFY | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF;

}  // namespace

FolderWatch::Identity FolderWatch::identify(const std::filesystem::path& path) {
    struct stat info{};
    if (::stat(path.c_str(), &info) != 0) {
        return {.error = errno};
    }
    return {.device = info.st_dev, .inode = info.st_ino};
}

std::vector<FolderWatch::Identity> FolderWatch::identify_all() const {
    std::vector<Identity> identities;
    identities.reserve(folders_.size());
    std::ranges::transform(folders_, std::back_inserter(identities),
                           [](const WatchedFolder& folder) { return identify(folder.path); });
    return identities;
}

bool FolderWatch::add_one(const std::filesystem::path& path) const {
    // What is not there is known by its identity.
    return ::inotify_add_watch(inotify_.get(), path.c_str(), changes) >= 0 || errno == ENOENT || errno == ENOTDIR;
}

bool FolderWatch::add_subfolders(const std::filesystem::path& path) const {
    std::error_code error;
    auto entry = std::filesystem::directory_iterator(path, error);
    for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
        std::error_code gone;
        if (entry->is_directory(gone) && !add_one(entry->path())) {
            return false;
        }
    }
    return !error || error == std::errc::no_such_file_or_directory || error == std::errc::not_a_directory;
}

bool FolderWatch::add(const WatchedFolder& folder) const {
    return add_one(folder.path) && (!folder.subfolders || add_subfolders(folder.path));
}

void FolderWatch::watch() {
    auto now = identify_all();
    // What is watched of folders that are not there any more ends with the instance.
    if (!inotify_ || now != watched_) {
        inotify_.reset(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
    }
    watched_ = std::move(now);
    const bool complete = inotify_ && take_events() != News::unknown &&
                          std::ranges::all_of(folders_, [this](const WatchedFolder& folder) { return add(folder); });
    news_ = complete ? News::none : News::unknown;
}

FolderWatch::News FolderWatch::take_events() const {
    auto news = News::none;
    alignas(inotify_event) std::array<std::byte, 16384> buffer{};
    for (;;) {
        const auto length = ::read(inotify_.get(), buffer.data(), buffer.size());
        if (length > 0) {
            news = News::some;  // whatever it is: also that events were lost (IN_Q_OVERFLOW)
        } else if (length < 0 && errno == EAGAIN) {
            return news;
        } else if (length == 0 || errno != EINTR) {
            return News::unknown;
        }
    }
}

FolderWatch::News FolderWatch::news() {
    if (news_ != News::none) {
        return news_;
    }
    news_ = take_events();
    if (news_ == News::none && identify_all() != watched_) {
        news_ = News::some;
    }
    return news_;
}

}  // namespace hptrace
