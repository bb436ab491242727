// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/node_files.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace hptrace {

namespace {

std::int64_t nanoseconds(const timespec& time) {
    return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

Result<struct stat> status_of(const Fd& place) {
    struct stat info{};
    return ::fstat(place.get(), &info) == 0 ? Result<struct stat>(info) : system_error("cannot be read");
}

Result<struct stat> status_of(const RootFolder& root, const std::filesystem::path& path) {
    const auto place = root.open_place(path);
    return place ? status_of(*place) : std::unexpected(place.error());
}

}  // namespace

Result<std::optional<std::vector<std::string>>> NodeFiles::names(const std::filesystem::path& folder) {
    auto names = root_.list(folder, files_left_);
    if (!names) {
        const auto code = names.error().code;
        if (code == ENOENT) {
            return std::nullopt;
        }
        return code != 0 ? std::unexpected(std::move(names.error()))
                         : failure(fmt::format("more than {} files in all", most_files));
    }
    files_left_ -= names->size();
    std::ranges::sort(*names);  // the order of a folder is not its own
    return *std::move(names);
}

Result<std::optional<FileContent>> NodeFiles::read(const std::filesystem::path& file, std::size_t limit) {
    const auto place = root_.open_place(file);
    const auto info = place ? status_of(*place) : std::unexpected(place.error());
    if (!info) {
        if (is_absent(info.error())) {
            return std::nullopt;
        }
        return std::unexpected(info.error());
    }
    if (!S_ISREG(info->st_mode)) {
        return std::nullopt;
    }
    auto content = root_.read_begin(*place, file, std::min(limit, bytes_left_));
    if (!content) {
        return std::unexpected(std::move(content.error()));
    }
    if (content->cut_off && limit > bytes_left_) {
        bytes_left_ = 0;
        return failure(fmt::format("not read: more than {} MiB in all", most_bytes / (1024UL * 1024)));
    }
    bytes_left_ -= content->text.size();
    return *std::move(content);
}

std::vector<std::string> NodeFiles::add_folder_version(const std::filesystem::path& folder, Fingerprint& print) {
    auto read = names(folder);
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

void NodeFiles::add_file_version(const std::filesystem::path& file, Fingerprint& print) const {
    const auto read = status_of(root_, file);
    struct stat info{};
    if (read) {
        info = *read;
    }
    print.add(read ? 0 : read.error().code);
    print.add(info.st_ino);
    print.add(info.st_size);
    print.add(nanoseconds(info.st_mtim));
    print.add(nanoseconds(info.st_ctim));  // of a file made readable only this changes
}

std::uint64_t NodeFiles::folder_time(const std::filesystem::path& folder) const {
    const auto info = status_of(root_, folder);
    return info ? static_cast<std::uint64_t>(nanoseconds(info->st_mtim)) : 0;
}

void Problems::add(std::string problem) {
    if (count_ == 0 || problem < first_) {
        first_ = std::move(problem);
    }
    ++count_;
}

SourceStatus Problems::status(const std::filesystem::path& folder) const {
    if (count_ == 0) {
        return {.state = SourceState::used, .why = {}};
    }
    return {.state = SourceState::unreadable,
            .why = count_ == 1 ? fmt::format("{}/{}", folder.string(), first_)
                               : fmt::format("{} files in {}, first {}", count_, folder.string(), first_)};
}

SourceStatus unreadable(const std::filesystem::path& folder, const Error& error) {
    return {.state = SourceState::unreadable, .why = fmt::format("{}: {}", folder.string(), describe(error))};
}

}  // namespace hptrace
