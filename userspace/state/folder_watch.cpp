// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/folder_watch.hpp"

#include <fmt/format.h>
#include <sys/inotify.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <iterator>

#include "base/file.hpp"

namespace hptrace {

namespace {

// Files that come, go, are written or get other rights, and the end of the folder itself.
constexpr std::uint32_t changes =
    IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MODIFY | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF;

// More than a node has; the kernel allows an instance fewer by default on small machines, and then says so.
constexpr std::size_t most_subfolders = 100'000;

}  // namespace

FolderWatch::Identity FolderWatch::identify(const RootFolder& root, const std::filesystem::path& path) {
    const auto place = root.open_place(path);
    if (!place) {
        return {.error = place.error().code};
    }
    struct stat info{};
    if (::fstat(place->get(), &info) != 0) {
        return {.error = errno};
    }
    return {.device = info.st_dev, .inode = info.st_ino};
}

std::vector<FolderWatch::Identity> FolderWatch::identify_all(const Result<RootFolder>& root) const {
    std::vector<Identity> identities;
    identities.reserve(folders_.size());
    std::ranges::transform(folders_, std::back_inserter(identities), [&](const WatchedFolder& folder) {
        return root ? identify(*root, folder.path) : Identity{.error = root.error().code};
    });
    return identities;
}

bool FolderWatch::add_one(const RootFolder& root, const std::filesystem::path& path, std::uint32_t events) const {
    const auto place = root.open_place(path);
    if (!place) {  // what is not there is known by its identity
        return is_absent(place.error());
    }
    // By its descriptor: the path could lead elsewhere by now.
    const auto found = fmt::format("/proc/self/fd/{}", place->get());
    return ::inotify_add_watch(inotify_.get(), found.c_str(), events) >= 0 || errno == ENOTDIR;
}

bool FolderWatch::add(const RootFolder& root, const WatchedFolder& folder) const {
    if (!add_one(root, folder.path, changes)) {
        return false;
    }
    if (!folder.subfolders) {
        return true;
    }
    const auto names = root.list(folder.path, most_subfolders);
    return names
               ? std::ranges::all_of(
                     *names, [&](const auto& name) { return add_one(root, folder.path / name, changes | IN_ONLYDIR); })
               : is_absent(names.error());
}

void FolderWatch::watch() {
    const auto root = root_.open();
    auto now = identify_all(root);
    // What is watched of folders that are not there any more ends with the instance.
    if (!inotify_ || now != watched_) {
        inotify_.reset(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
    }
    watched_ = std::move(now);
    const auto add_all = [&] {
        return root ? std::ranges::all_of(folders_, [&](const auto& folder) { return add(*root, folder); })
                    : is_absent(root.error());
    };
    const bool complete = inotify_ && take_events() != News::unknown && add_all();
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
    if (news_ == News::none && identify_all(root_.open()) != watched_) {
        news_ = News::some;
    }
    return news_;
}

}  // namespace hptrace
