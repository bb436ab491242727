// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/child.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>

#include <catch2/catch_test_macros.hpp>
#include <csignal>

#include "base/fd.hpp"
#include "cli/signals.hpp"

using namespace hptrace;

namespace {

// Waits for SIGCHLD as the trace does.
std::string outcome(const std::vector<std::string>& command, const std::vector<int>& inherited = open_descriptors()) {
    auto signals = Signals::start();
    REQUIRE(signals);
    auto child = Child::start(command, inherited);
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

TEST_CASE("a command has SIGCHLD as others have it, and what its user ignores stays ignored") {
    REQUIRE(std::signal(SIGCHLD, SIG_IGN) != SIG_ERR);   // as some supervisors start their services
    REQUIRE(std::signal(SIGHUP, SIG_IGN) != SIG_ERR);    // nohup
    CHECK(outcome({"true"}) == "exited with status 0");  // and its end is noticed
    const auto ignored = [](int number) {
        return std::vector<std::string>{
            "sh", "-c",
            fmt::format("exit $((0x$(sed -n 's/^SigIgn:[[:space:]]*//p' /proc/self/status) >> {} & 1))", number - 1)};
    };
    CHECK(outcome(ignored(SIGCHLD)) == "exited with status 0");
    CHECK(outcome(ignored(SIGHUP)) == "exited with status 1");
    REQUIRE(std::signal(SIGHUP, SIG_DFL) != SIG_ERR);
    CHECK(outcome(ignored(SIGHUP)) == "exited with status 0");
}

TEST_CASE("a command has the descriptors that hptrace was started with, and no others") {
    const Fd given(::open("/dev/null", O_RDONLY));  // NOLINT(android-cloexec-open): that is what is tested
    const auto inherited = open_descriptors();
    const Fd opened(::open("/dev/null", O_RDONLY));  // NOLINT(android-cloexec-open)
    REQUIRE(given);
    REQUIRE(opened);
    const auto has = [](const Fd& fd) { return fmt::format("[ -e /proc/self/fd/{} ]", fd.get()); };
    CHECK(outcome({"sh", "-c", has(given)}, inherited) == "exited with status 0");
    CHECK(outcome({"sh", "-c", has(opened)}, inherited) == "exited with status 1");
    CHECK(outcome({"sh", "-c", has(opened)}) == "exited with status 0");  // else this proves nothing
}

TEST_CASE("what cannot be run is an error") {
    const auto child = Child::start({"/nonexistent/command"}, {0, 1, 2});
    REQUIRE_FALSE(child);
    CHECK(child.error().code == ENOENT);
    CHECK(describe(child.error()).find("/nonexistent/command") != std::string::npos);
}
