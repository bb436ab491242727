// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/root_folder.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <memory>
#include <string_view>

namespace hptrace {

namespace {

using Names = std::vector<std::string>;

std::unexpected<Error> cannot_be_read(int code = errno) {
    return system_error("cannot be read", code);
}

struct CloseFolder {
    void operator()(DIR* folder) const { ::closedir(folder); }
};

// -1 and errno: ENOSYS or, from a seccomp filter, EPERM if there is no such call; EAGAIN if folders were being moved.
Fd open_in_root(int root, const char* path, int flags) {
    const open_how how{
        .flags = static_cast<__u64>(flags), .mode = 0, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    return Fd(static_cast<int>(::syscall(SYS_openat2, root, path, &how, sizeof(how))));
}

// Of what open_in_root() leaves.
bool is_to_be_walked(int error) {
    return error == ENOSYS || error == EPERM || error == EAGAIN;
}

// The same in steps of one name.
class Walk {
public:
    explicit Walk(int root) : root_(root) {}

    Result<Fd> to(std::string_view path) && {
        put_before_rest(path);
        while (!rest_.empty()) {
            const auto name = std::move(rest_.back());
            rest_.pop_back();
            if (const int error = take(name); error != 0) {
                return cannot_be_read(error);
            }
        }
        if (!way_.empty()) {
            return std::move(way_.back());
        }
        Fd root(::openat(root_, ".", O_PATH | O_CLOEXEC));
        return root ? Result<Fd>(std::move(root)) : cannot_be_read();
    }

private:
    // As the kernel has it (include/linux/namei.h), and for names and open folders what no path of a node needs.
    static constexpr int most_links = 40;
    static constexpr std::size_t most_names = PATH_MAX;
    static constexpr std::size_t most_folders = 128;

    [[nodiscard]] int here() const { return way_.empty() ? root_ : way_.back().get(); }

    void put_before_rest(std::string_view path) {
        Names names;
        while (!path.empty()) {
            const auto name = path.substr(0, path.find('/'));
            path.remove_prefix(std::min(name.size() + 1, path.size()));
            names.emplace_back(name);
        }
        std::ranges::move(names.rbegin(), names.rend(), std::back_inserter(rest_));
    }

    int take(const std::string& name) {
        if (name.empty()) {
            return 0;
        }
        if (name == "." || name == "..") {
            if (!Fd(::openat(here(), ".", O_PATH | O_DIRECTORY | O_CLOEXEC))) {
                return errno;
            }
            if (name == ".." && !way_.empty()) {  // what is above the root is the root
                way_.pop_back();
            }
            return 0;
        }
        Fd next(::openat(here(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
        struct stat info{};
        if (!next || ::fstat(next.get(), &info) != 0) {
            return errno;
        }
        if (S_ISLNK(info.st_mode)) {
            return follow(next);
        }
        if (way_.size() == most_folders) {
            return ENAMETOOLONG;
        }
        way_.push_back(std::move(next));
        return 0;
    }

    int follow(const Fd& link) {
        struct statfs file_system{};
        std::array<char, PATH_MAX> text{};
        const auto length = ::readlinkat(link.get(), "", text.data(), text.size());
        if (length < 0 || ::fstatfs(link.get(), &file_system) != 0) {
            return errno;
        }
        if (file_system.f_type == PROC_SUPER_MAGIC || ++links_ > most_links) {
            return ELOOP;
        }
        const std::string_view target(text.data(), static_cast<std::size_t>(length));
        if (target.empty()) {
            return ENOENT;
        }
        if (target.front() == '/') {
            way_.clear();
        }
        put_before_rest(target);
        return rest_.size() > most_names ? ENAMETOOLONG : 0;
    }

    int root_;
    std::vector<Fd> way_;  // the folders below the root that lead here
    Names rest_;           // the next one last
    int links_ = 0;
};

}  // namespace

Result<RootFolder> RootFolder::open(const std::filesystem::path& path) {
    Fd folder(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    return folder ? Result<RootFolder>(RootFolder(std::move(folder), path)) : cannot_be_read();
}

std::filesystem::path RootFolder::path(const std::filesystem::path& inside) const {
    return inside.relative_path().empty() ? path_ : path_ / inside.relative_path();
}

Result<Fd> RootFolder::open_place(const std::filesystem::path& inside) const {
    const auto& path = inside.empty() ? "." : inside.native();
    if (path.contains('\0')) {  // the kernel would look for what is before it
        return cannot_be_read(ENOENT);
    }
    auto place = open_in_root(folder_.get(), path.c_str(), O_PATH | O_CLOEXEC);
    if (place) {
        return place;
    }
    return is_to_be_walked(errno) ? Walk(folder_.get()).to(path) : cannot_be_read();
}

Result<FileContent> RootFolder::read_begin(const Fd& place, const std::filesystem::path& inside,
                                           std::size_t limit) const {
    return read_file_begin(place, limit, [&] { return open_by_name(inside); });
}

Fd RootFolder::open_by_name(const std::filesystem::path& inside) const {
    auto file = open_in_root(folder_.get(), inside.c_str(), open_for_reading);
    if (file || !is_to_be_walked(errno)) {
        return file;
    }
    const auto folder = Walk(folder_.get()).to(inside.parent_path().native());
    if (!folder) {
        errno = folder.error().code;
        return {};
    }
    return Fd(::openat(folder->get(), inside.filename().c_str(), open_for_reading | O_NOFOLLOW));
}

Result<std::vector<std::string>> RootFolder::list(const std::filesystem::path& inside, std::size_t limit) const {
    const auto place = open_place(inside);
    if (!place) {
        return std::unexpected(place.error());
    }
    Fd folder(::openat(place->get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK));
    const std::unique_ptr<DIR, CloseFolder> entries(folder ? ::fdopendir(folder.get()) : nullptr);
    if (!entries) {
        return cannot_be_read();
    }
    static_cast<void>(folder.release());  // it is the stream's
    Names names;
    for (;;) {
        errno = 0;
        const auto* const entry = ::readdir(entries.get());
        if (entry == nullptr) {
            return errno == 0 ? Result<Names>(std::move(names)) : cannot_be_read();
        }
        const std::string_view name(std::data(entry->d_name));
        if (name == "." || name == "..") {
            continue;
        }
        if (names.size() == limit) {
            return failure(fmt::format("more than {} files", limit));
        }
        names.emplace_back(name);
    }
}

}  // namespace hptrace
