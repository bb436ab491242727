// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/netns.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <utility>

#include "base/fd.hpp"
#include "fresh_netns.hpp"

using namespace hptrace;

TEST_CASE("a thread's own namespace counts, not the program's", "[netns]") {
    const auto outside = current_netns_inode();
    const auto inside = in_fresh_netns(current_netns_inode);
    REQUIRE(outside);
    REQUIRE(inside);
    CHECK(*outside != *inside);
    CHECK(netns_inode(std::to_string(::getpid())) == *outside);
    CHECK(fmt::format("net:[{}]", *outside) == std::filesystem::read_symlink("/proc/self/ns/net").string());
}

TEST_CASE("a guard enters a namespace and returns", "[netns]") {
    const auto outside = current_netns_inode().value();
    // Keeps the fresh namespace alive after its thread.
    const Fd kept = in_fresh_netns([] { return Fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)); });
    const auto path = fmt::format("/proc/self/fd/{}", kept.get());
    {
        const auto guard = NetnsGuard::enter(path);
        REQUIRE(guard);
        CHECK(current_netns_inode().value() == netns_inode(path).value());
        CHECK(current_netns_inode().value() != outside);
    }
    CHECK(current_netns_inode().value() == outside);
}

TEST_CASE("a moved guard returns once, when it is destroyed", "[netns]") {
    const auto outside = current_netns_inode().value();
    const Fd kept = in_fresh_netns([] { return Fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)); });
    {
        auto first = NetnsGuard::enter(fmt::format("/proc/self/fd/{}", kept.get()));
        REQUIRE(first);
        const auto second = std::move(*first);
        CHECK(current_netns_inode().value() != outside);
    }
    CHECK(current_netns_inode().value() == outside);
}

TEST_CASE("what is no network namespace is refused in one line", "[netns]") {
    const auto outside = current_netns_inode().value();
    for (const auto* const name : {"/no/such/file", "/proc/self/ns/mnt", "/etc/passwd", "/", "", "4194305", "/dev/null",
                                   "99999999999999999999"}) {
        INFO("namespace '" << name << "'");
        const auto guard = NetnsGuard::enter(name);
        REQUIRE_FALSE(guard);
        CHECK(describe(guard.error()).find('\n') == std::string::npos);
        CHECK(describe(guard.error()).find(name) != std::string::npos);
        CHECK_FALSE(guard.error().hint.empty());
        CHECK_FALSE(netns_inode(name));
        CHECK(current_netns_inode().value() == outside);
    }
}
