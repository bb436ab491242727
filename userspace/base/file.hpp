// SPDX-License-Identifier: GPL-2.0-or-later
// The one way to read a file that hptrace did not write: neither what it is, nor its size, nor who changes it meanwhile
// can hold the reader up or take its memory. Files of /proc and /sys that the program reads on purpose are not its
// business.
#pragma once

#include <fcntl.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "base/error.hpp"
#include "base/fd.hpp"

namespace hptrace {

// What there was of a file.
struct FileContent {
    std::string text;
    bool cut_off = false;         // there is more than was asked for
    std::int64_t written_ns = 0;  // mtime, in nanoseconds
};

// The whole of a file of at most `limit` bytes. Symbolic links are followed, so this is for paths that the user names
// (what others can put links into is read by RootFolder).
//
// Only a regular file that is stored somewhere is ever opened: not a pipe, which would wait, not a device, which can
// act on being opened, and nothing the kernel makes up while it is read (/proc/kmsg waits, and takes the messages
// away). What is found to be a regular file is what is opened, whatever has its name by then. /dev/null is an empty
// file.
//
// Errors say what is wrong ("cannot be read: Permission denied", "larger than 16 MiB", "not a file but a pipe"), but
// not with which file: the caller knows it by the name that the user does. Code: ENOENT or ENOTDIR if there is none
// (is_absent()), else errno, or 0 if it is no such file or too long.
Result<std::string> read_file(const std::filesystem::path& path, std::size_t limit);

// The same; of a longer file its first `limit` bytes.
Result<FileContent> read_file_begin(const std::filesystem::path& path, std::size_t limit);

// The same of what is open as O_PATH, which is what holds it: its name may be another's by now. by_name: opens that
// name with open_for_reading, or returns nothing and leaves errno; asked only where /proc is not mounted, and what it
// opens must be the same file.
Result<FileContent> read_file_begin(const Fd& place, std::size_t limit, const std::function<Fd()>& by_name);

// Flags for open(2) to read a regular file. O_NONBLOCK: nor is the holder of a lease waited for (fcntl(2)).
inline constexpr int open_for_reading = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

// There is no such file, or a folder on the way to it is missing.
bool is_absent(const Error& error);

}  // namespace hptrace
