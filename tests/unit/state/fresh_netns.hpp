// SPDX-License-Identifier: GPL-2.0-or-later
// Runs code in a network namespace of its own, which is gone afterwards. Needs root; without it tests fail.
#pragma once

#include <sched.h>

#include <cerrno>
#include <cstdlib>
#include <future>
#include <stdexcept>
#include <string>
#include <system_error>

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
