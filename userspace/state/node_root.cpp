// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/node_root.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/nsfs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cerrno>
#include <string_view>

#include "base/fd.hpp"
#include "state/pod_source.hpp"

namespace hptrace {

namespace {

using Namespace = std::pair<dev_t, ino_t>;

// Nothing and errno: it cannot be told.
std::optional<Namespace> namespace_at(int folder, const char* file, int flags = 0) {
    struct stat info{};
    return ::fstatat(folder, file, &info, flags) == 0 ? std::optional(Namespace(info.st_dev, info.st_ino))
                                                      : std::nullopt;
}

// The user namespace that a process's mount namespace belongs to: who is root there can change what is mounted.
std::optional<Namespace> owner_of_mounts(const Fd& process) {
    const Fd mounts(::openat(process.get(), "ns/mnt", O_RDONLY | O_CLOEXEC));
    const Fd owner(mounts ? ::ioctl(mounts.get(), NS_GET_USERNS) : -1);
    return owner ? namespace_at(owner.get(), "", AT_EMPTY_PATH) : std::nullopt;
}

// `process`: its folder in /proc. Is it, and what is mounted for it, of this process's user namespace?
bool is_of_own_user_namespace(const Fd& process) {
    const auto own = namespace_at(AT_FDCWD, "/proc/self/ns/user");
    if (!own) {
        return errno == ENOENT;  // a kernel without user namespaces
    }
    return namespace_at(process.get(), "ns/user") == own && owner_of_mounts(process) == own;
}

Result<RootFolder> open_root_of(pid_t pid, const std::filesystem::path& path) {
    // All of it through one descriptor, which is of this process even when its number has become another's.
    const Fd process(::open(fmt::format("/proc/{}", pid).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    Fd root(process ? ::openat(process.get(), "root", O_PATH | O_DIRECTORY | O_CLOEXEC) : -1);
    if (!root) {
        return system_error("cannot be read", errno == ENOENT ? ESRCH : errno);
    }
    // Asked last: a process can leave its user namespace for one below it, and does not come back.
    if (!is_of_own_user_namespace(process)) {
        return system_error("not read", EPERM, "it belongs to another user namespace");
    }
    return RootFolder(std::move(root), path);
}

bool has_folder(const NodeRoot& root, const std::filesystem::path& folder) {
    const auto opened = root.open();
    const auto place = opened ? opened->open_place(folder) : std::unexpected(opened.error());
    struct stat info{};
    return place && ::fstat(place->get(), &info) == 0 && S_ISDIR(info.st_mode);
}

}  // namespace

NodeRoot NodeRoot::of_process(pid_t pid) {
    NodeRoot root(fmt::format("/proc/{}/root", pid));
    root.process_ = pid;
    return root;
}

Result<RootFolder> NodeRoot::open() const {
    return process_ ? open_root_of(*process_, path_) : RootFolder::open(path_);
}

NodeRoot node_root_of(std::optional<pid_t> pid, const std::filesystem::path& host_root) {
    if (pid) {
        auto own = NodeRoot::of_process(*pid);
        if (has_folder(own, PodFolders().cni_results)) {
            return own;
        }
    }
    return host_root;
}

std::filesystem::path detect_host_root() {
    const auto has_cni = [](const char* root) {
        return has_folder(std::filesystem::path(root), PodFolders().cni_results.parent_path());
    };
    return !has_cni("/") && has_cni("/host") ? "/host" : "/";
}

}  // namespace hptrace
