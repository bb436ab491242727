// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>
#include <utility>

namespace hptrace {

namespace {

using ByName = std::function<Fd()>;

constexpr std::size_t chunk_size = 65536;

// File systems whose regular files are made up by the kernel while they are read.
// clang-format off
constexpr auto made_up_by_the_kernel = std::to_array<std::uint32_t>({
    PROC_SUPER_MAGIC, SYSFS_MAGIC, DEBUGFS_MAGIC, TRACEFS_MAGIC, SECURITYFS_MAGIC, CGROUP_SUPER_MAGIC,
    CGROUP2_SUPER_MAGIC, NSFS_MAGIC, BPF_FS_MAGIC, SELINUX_MAGIC, SMACK_MAGIC, AAFS_MAGIC, PSTOREFS_MAGIC,
    EFIVARFS_MAGIC, BINFMTFS_MAGIC, BINDERFS_SUPER_MAGIC, RDTGROUP_SUPER_MAGIC, XENFS_SUPER_MAGIC, OPENPROM_SUPER_MAGIC,
    // in no public header: configfs (fs/configfs/mount.c), mqueue (ipc/mqueue.c), fusectl (fs/fuse/control.c)
    0x62656570, 0x19800202, 0x65735543,
});
// clang-format on

std::string_view kind_of(mode_t mode) {
    switch (mode & S_IFMT) {
        case S_IFDIR:
            return "a directory";
        case S_IFIFO:
            return "a pipe";
        case S_IFSOCK:
            return "a socket";
        case S_IFCHR:
        case S_IFBLK:
            return "a device";
        case S_IFLNK:
            return "a symbolic link";
        default:
            return "something else";
    }
}

std::string size_text(std::size_t bytes) {
    constexpr std::size_t mebibyte = 1024UL * 1024;
    return bytes >= mebibyte && bytes % mebibyte == 0 ? fmt::format("{} MiB", bytes / mebibyte)
                                                      : fmt::format("{} bytes", bytes);
}

std::unexpected<Error> cannot_be_read(int code = errno) {
    return system_error("cannot be read", code);
}

enum class Longer : std::uint8_t { is_refused, is_cut_off };

// Without /proc, in an empty root, there is no way but the name: what has it must still be what was looked at.
Result<Fd> reopen_by_name(const struct stat& info, const ByName& by_name) {
    auto file = by_name();
    struct stat now{};
    if (!file || ::fstat(file.get(), &now) != 0) {
        return cannot_be_read();
    }
    if (now.st_dev != info.st_dev || now.st_ino != info.st_ino || !S_ISREG(now.st_mode)) {
        return failure("another file by the time it was opened");
    }
    return file;
}

// What is open as O_PATH, for reading.
Result<Fd> reopen(const Fd& place, const struct stat& info, const ByName& by_name) {
    Fd file(::open(fmt::format("/proc/self/fd/{}", place.get()).c_str(), open_for_reading));
    if (file) {
        return file;
    }
    return errno == ENOENT || errno == ENOTDIR ? reopen_by_name(info, by_name) : cannot_be_read();
}

// /dev/null stands for an empty file on command lines, and need not be opened for that.
bool is_null_device(const Fd& place) {
    const dev_t null_device = makedev(1, 3);
    struct stat info{};
    return ::fstat(place.get(), &info) == 0 && S_ISCHR(info.st_mode) && info.st_rdev == null_device;
}

Result<struct stat> check_kind(const Fd& place) {
    struct stat info{};
    if (::fstat(place.get(), &info) != 0) {
        return cannot_be_read();
    }
    if (!S_ISREG(info.st_mode)) {
        return failure(fmt::format("not a file but {}", kind_of(info.st_mode)));
    }
    struct statfs file_system{};
    if (::fstatfs(place.get(), &file_system) != 0) {
        return cannot_be_read();
    }
    if (std::ranges::find(made_up_by_the_kernel, static_cast<std::uint32_t>(file_system.f_type)) !=
        made_up_by_the_kernel.end()) {
        return failure("not a stored file but one that the kernel makes up");
    }
    return info;
}

Result<FileContent> read(const Fd& place, std::size_t limit, Longer longer, const ByName& by_name) {
    if (is_null_device(place)) {
        return FileContent();
    }
    const auto info = check_kind(place);
    if (!info) {
        return std::unexpected(info.error());
    }
    const auto too_long = [&] { return failure(fmt::format("larger than {}", size_text(limit))); };
    // Holes are neither read nor kept in memory.
    if (longer == Longer::is_refused && std::cmp_greater(info->st_size, limit)) {
        return too_long();
    }
    FileContent content{.text = {},
                        .cut_off = false,
                        .written_ns = std::int64_t{info->st_mtim.tv_sec} * 1'000'000'000 + info->st_mtim.tv_nsec};
    // A stored file has its size. What has none and yet something to read is one more kind that the kernel makes up.
    if (info->st_size == 0) {
        return content;
    }
    const auto file = reopen(place, *info, by_name);
    if (!file) {
        return std::unexpected(file.error());
    }
    // It may have grown since: one byte more than is wanted tells that there is more.
    for (const auto wanted = limit + 1; content.text.size() < wanted;) {
        const auto known = content.text.size();
        const auto step = std::min(chunk_size, wanted - known);
        content.text.resize(known + step);
        const auto length = ::read(file->get(), content.text.data() + known, step);
        content.text.resize(known + (length > 0 ? static_cast<std::size_t>(length) : 0));
        if (length == 0) {
            break;
        }
        if (length < 0 && errno != EINTR) {
            return cannot_be_read();
        }
    }
    content.cut_off = content.text.size() > limit;
    if (content.cut_off && longer == Longer::is_refused) {
        return too_long();
    }
    content.text.resize(std::min(content.text.size(), limit));
    return content;
}

Result<FileContent> read(const std::filesystem::path& path, std::size_t limit, Longer longer) {
    if (path.native().contains('\0')) {  // the kernel would look for what is before it
        return cannot_be_read(ENOENT);
    }
    const Fd place(::open(path.c_str(), O_PATH | O_CLOEXEC));
    return place ? read(place, limit, longer, [&path] { return Fd(::open(path.c_str(), open_for_reading)); })
                 : cannot_be_read();
}

}  // namespace

Result<std::string> read_file(const std::filesystem::path& path, std::size_t limit) {
    auto content = read(path, limit, Longer::is_refused);
    return content ? Result<std::string>(std::move(content->text)) : std::unexpected(std::move(content.error()));
}

Result<FileContent> read_file_begin(const std::filesystem::path& path, std::size_t limit) {
    return read(path, limit, Longer::is_cut_off);
}

Result<FileContent> read_file_begin(const Fd& place, std::size_t limit, const ByName& by_name) {
    return read(place, limit, Longer::is_cut_off, by_name);
}

bool is_absent(const Error& error) {
    return error.code == ENOENT || error.code == ENOTDIR;
}

}  // namespace hptrace
