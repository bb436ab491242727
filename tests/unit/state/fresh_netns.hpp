// SPDX-License-Identifier: GPL-2.0-or-later
// Runs code in a network namespace of its own, which is gone afterwards. Needs root; without it tests fail.
#pragma once

#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <future>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "state/netns.hpp"

// A shell command in the namespace of the calling thread.
inline void run(const std::string& command) {
    if (std::system(command.c_str()) !=
        0) {  // NOLINT(cert-env33-c,concurrency-mt-unsafe): tests set up by the usual tools
        throw std::runtime_error("failed: " + command);
    }
}

// The result of `function`, called by a thread in a fresh network namespace. Assert on the result, not inside.
template <class Function>
auto in_fresh_netns(Function function) {
    return std::async(std::launch::async,
                      [&] {
                          if (::unshare(CLONE_NEWNET) != 0) {
                              throw std::system_error(errno, std::generic_category(), "unshare(CLONE_NEWNET)");
                          }
                          return function();
                      })
        .get();
}

// A network namespace that is mounted where `ip netns` has them, and that no process is in.
class NamedNetns {
public:
    NamedNetns() { run("ip netns add " + name_); }
    NamedNetns(const NamedNetns&) = delete;
    NamedNetns& operator=(const NamedNetns&) = delete;
    NamedNetns(NamedNetns&&) = delete;
    NamedNetns& operator=(NamedNetns&&) = delete;
    ~NamedNetns() { remove(); }

    void remove() {
        if (!std::exchange(name_, {}).empty()) {
            static_cast<void>(std::system(("ip netns del " + path_.substr(prefix.size())).c_str()));
        }
    }
    void run_inside(const std::string& command) const { run("ip netns exec " + name_ + " sh -c '" + command + "'"); }
    [[nodiscard]] const std::string& path() const { return path_; }
    [[nodiscard]] std::uint32_t inode() const { return hptrace::netns_inode(path_).value(); }

private:
    static constexpr std::string_view prefix = "/run/netns/";

    std::string name_ = "hptrace-test-" + std::to_string(::getpid());
    std::string path_ = std::string(prefix) + name_;
};
