// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/child.hpp"

#include <fcntl.h>
#include <poll.h>

#include <catch2/catch_test_macros.hpp>
#include <csignal>

#include "base/fd.hpp"
#include "cli/signals.hpp"

using namespace hptrace;

namespace {

// Waits for SIGCHLD as the trace does.
std::string outcome(const std::vector<std::string>& command) {
    auto signals = Signals::start();
    REQUIRE(signals);
    auto child = Child::start(command);
    REQUIRE(child);
    for (;;) {
        if (const auto how = child->ended()) {
            while (signals->next()) {
            }
            return *how;
        }
        pollfd wait{.fd = signals->descriptor(), .events = POLLIN, .revents = 0};
        REQUIRE(::poll(&wait, 1, 60'000) == 1);
        CHECK(signals->next() == SIGCHLD);
    }
}

}  // namespace

TEST_CASE("how a command ended is known") {
    CHECK(outcome({"true"}) == "exited with status 0");
    CHECK(outcome({"sh", "-c", "exit 7"}) == "exited with status 7");
}

TEST_CASE("a command has the signals of an ordinary process") {
    REQUIRE(std::signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    CHECK(outcome({"sh", "-c", "kill -TERM $$; exit 1"}) == "was killed by signal 15");
    CHECK(outcome({"sh", "-c", "kill -PIPE $$; exit 1"}) == "was killed by signal 13");
}

TEST_CASE("a command has standard input, output and error, and nothing else that is open") {
    const Fd open(::open("/dev/null", O_RDONLY));  // NOLINT(android-cloexec-open): that is what is tested
    REQUIRE(open);
    // The pattern opens the folder, and has closed it when its results are looked at.
    CHECK(outcome({"sh", "-c",
                   "for file in /proc/self/fd/*; do [ ! -e $file ] || echo ${file##*/}; done |"
                   " { read a; read b; read c; read d; [ \"$a $b $c $d\" = '0 1 2 ' ]; }"}) == "exited with status 0");
}

TEST_CASE("what cannot be run is an error") {
    const auto child = Child::start({"/nonexistent/command"});
    REQUIRE_FALSE(child);
    CHECK(child.error().code == ENOENT);
    CHECK(describe(child.error()).find("/nonexistent/command") != std::string::npos);
}
