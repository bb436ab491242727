// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/child.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <system_error>

namespace hptrace {

std::vector<int> open_descriptors() {
    std::vector<int> open;
    std::error_code error;
    auto entry = std::filesystem::directory_iterator("/proc/self/fd", error);
    for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
        open.push_back(std::stoi(entry->path().filename().string()));
    }
    // The folder's own was among them and is closed by now.
    std::erase_if(open, [](int fd) { return ::fcntl(fd, F_GETFD) < 0; });
    std::ranges::sort(open);
    return open;
}

Result<Child> Child::start(const std::vector<std::string>& command, const std::vector<int>& inherited) {
    std::vector<char*> arguments;
    arguments.reserve(command.size() + 1);
    for (const auto& argument : command) {
        arguments.push_back(const_cast<char*>(argument.c_str()));  // posix_spawn does not write to them
    }
    arguments.push_back(nullptr);

    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none;
    sigemptyset(&none);
    sigset_t defaults;
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);  // which hptrace ignores
    sigaddset(&defaults, SIGCHLD);  // a program that is started with it ignored misses the ends of its own children
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    for (const int fd : open_descriptors()) {
        if (!std::ranges::binary_search(inherited, fd)) {
            posix_spawn_file_actions_addclose(&actions, fd);
        }
    }
    pid_t pid = 0;
    const int error = posix_spawnp(&pid, command.front().c_str(), &actions, &attributes, arguments.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (error != 0) {
        return system_error(fmt::format("cannot run '{}'", command.front()), error);
    }
    return Child(pid);
}

std::optional<std::string> Child::ended() {
    int status = 0;
    const auto pid = ::waitpid(pid_, &status, WNOHANG);
    if (pid < 0 && errno == ECHILD) {
        return "ended, nobody knows how";
    }
    if (pid != pid_) {
        return std::nullopt;
    }
    return WIFSIGNALED(status) ? fmt::format("was killed by signal {}", WTERMSIG(status))
                               : fmt::format("exited with status {}", WEXITSTATUS(status));
}

void Child::send(int signal_number) const {
    ::kill(pid_, signal_number);
}

}  // namespace hptrace
