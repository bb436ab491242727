// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/node_files.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

#include "base/fd.hpp"

namespace hptrace {

namespace {

// Far more than any of them needs; annotations in capabilityArgs can make files of libcni some 100 KiB long.
constexpr std::size_t largest_file = 1024UL * 1024;

std::int64_t nanoseconds(const timespec& time) {
    return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

bool is_absent(int error) {
    return error == ENOENT || error == ENOTDIR;
}

}  // namespace

Result<std::optional<NodeFile>> read_node_file(const std::filesystem::path& path) {
    // O_NONBLOCK: opening a pipe must not wait for its writer.
    const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (!fd) {
        if (is_absent(errno) || errno == ENXIO) {  // ENXIO: a socket
            return std::nullopt;
        }
        return system_error(path.filename().string());
    }
    struct stat info{};
    if (::fstat(fd.get(), &info) != 0) {
        return system_error(path.filename().string());
    }
    if (!S_ISREG(info.st_mode)) {
        return std::nullopt;
    }
    NodeFile file{.content = {}, .written_ns = nanoseconds(info.st_mtim)};
    std::array<char, 16384> chunk{};
    for (;;) {
        const auto length = ::read(fd.get(), chunk.data(), chunk.size());
        if (length < 0) {
            return system_error(path.filename().string());
        }
        if (length == 0) {
            return file;
        }
        file.content.append(chunk.data(), static_cast<std::size_t>(length));
        if (file.content.size() > largest_file) {
            return failure(fmt::format("{}: larger than {} bytes", path.filename().string(), largest_file));
        }
    }
}

Result<std::optional<std::vector<std::string>>> read_node_folder(const std::filesystem::path& folder) {
    std::vector<std::string> names;
    std::error_code error;
    auto entry = std::filesystem::directory_iterator(folder, error);
    if (error == std::errc::no_such_file_or_directory) {
        return std::nullopt;
    }
    for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
        names.push_back(entry->path().filename().string());
    }
    if (error) {
        return system_error(folder.string(), error.value());
    }
    std::ranges::sort(names);  // the order of a folder is not its own
    return names;
}

std::vector<std::string> add_folder_version(const std::filesystem::path& folder, Fingerprint& print) {
    auto read = read_node_folder(folder);
    print.add(read ? 0 : read.error().code);
    const bool is_there = read && read->has_value();
    print.add(is_there);
    auto names = read ? std::move(*read).value_or(std::vector<std::string>()) : std::vector<std::string>();
    print.add(names.size());
    for (const auto& name : names) {
        print.add(name);
    }
    return names;
}

void add_file_version(const std::filesystem::path& path, Fingerprint& print) {
    struct stat info{};
    print.add(::stat(path.c_str(), &info) == 0 ? 0 : errno);
    print.add(info.st_ino);
    print.add(info.st_size);
    print.add(nanoseconds(info.st_mtim));
    print.add(nanoseconds(info.st_ctim));  // of a file made readable only this changes
}

std::uint64_t folder_time(const std::filesystem::path& folder) {
    struct stat info{};
    return ::stat(folder.c_str(), &info) == 0 ? static_cast<std::uint64_t>(nanoseconds(info.st_mtim)) : 0;
}

SourceStatus status_with(std::vector<std::string> problems, const std::filesystem::path& folder) {
    if (problems.empty()) {
        return {.state = SourceState::used, .why = {}};
    }
    std::ranges::sort(problems);
    return {.state = SourceState::unreadable,
            .why = problems.size() == 1
                       ? fmt::format("{}/{}", folder.string(), problems.front())
                       : fmt::format("{} files in {}, first {}", problems.size(), folder.string(), problems.front())};
}

}  // namespace hptrace
