// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "base/file.hpp"

namespace hptrace {

// The root of a tree of files that others write: of another node, of a container. Nothing below it leads out of it,
// whoever put the symbolic links there: they and ".." are resolved as if it were "/". That is what
// openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS) does (since Linux 5.6); where the kernel has no such call or a
// seccomp filter refuses it, the path is walked folder by folder (and no link of /proc is followed at all).
class RootFolder {
public:
    // Links in `path` itself are followed. Error: errno, ENOTDIR if it is no folder.
    static Result<RootFolder> open(const std::filesystem::path& path);
    // What is open already; `path` is its name in messages.
    RootFolder(Fd folder, std::filesystem::path path) : folder_(std::move(folder)), path_(std::move(path)) {}

    // Its own name, and that of something in it, as the user knows them.
    [[nodiscard]] std::filesystem::path path(const std::filesystem::path& inside = {}) const;

    // What is at `inside`, which counts from the root with or without a leading "/"; empty: the root itself. Opened as
    // O_PATH: nothing is read, waited for or set going, whatever it is. Error: errno.
    [[nodiscard]] Result<Fd> open_place(const std::filesystem::path& inside) const;

    // The first `limit` bytes of the file at `inside`, which `place` was opened for; see read_file_begin().
    [[nodiscard]] Result<FileContent> read_begin(const Fd& place, const std::filesystem::path& inside,
                                                 std::size_t limit) const;

    // The names in a folder, in no order. Error: errno, or that it has more than `limit`.
    [[nodiscard]] Result<std::vector<std::string>> list(const std::filesystem::path& inside, std::size_t limit) const;

private:
    [[nodiscard]] Fd open_by_name(const std::filesystem::path& inside) const;

    Fd folder_;
    std::filesystem::path path_;
};

}  // namespace hptrace
