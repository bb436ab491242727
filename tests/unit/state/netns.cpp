// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/netns.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <functional>
#include <sstream>
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

TEST_CASE("only a namespace is opened", "[netns]") {
    // Opened, each would be another error, or act.
    for (const auto* const path : {"/dev/ptmx", "/proc/kmsg", "/etc/passwd", "/proc", "/dev/null"}) {
        const auto refused = netns_inode(path);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == EINVAL);
        CHECK(refused.error().hint == "not a network namespace file");
    }
    CHECK(netns_inode("/proc/self/ns/user").error().code == EINVAL);
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

TEST_CASE("namespaces are found by processes and by mounts") {
    const auto own = current_netns_inode().value();
    const auto places = list_netns();
    CHECK(std::ranges::is_sorted(places, std::ranges::less_equal(), &NetnsPlace::inode));
    const auto found = find_netns(own);
    REQUIRE(found);
    CHECK(found->pid);
    CHECK(netns_inode(found->path) == own);

    const NamedNetns named;
    const auto mounted = find_netns(named.inode());
    REQUIRE(mounted);
    CHECK(mounted->path == named.path());
    CHECK_FALSE(mounted->pid);
    {
        const auto guard = NetnsGuard::enter(*mounted);
        REQUIRE(guard);
        CHECK(current_netns_inode() == named.inode());
    }
    CHECK(current_netns_inode() == own);
}

TEST_CASE("a place that leads to another namespace by now is not entered") {
    const auto own = current_netns_inode().value();
    const NamedNetns named;
    const auto guard = NetnsGuard::enter(NetnsPlace{.inode = own + 1, .path = named.path(), .pid = {}});
    REQUIRE_FALSE(guard);
    CHECK(guard.error().code == ENOENT);
    CHECK(current_netns_inode() == own);
    const auto nowhere = find_netns(1);
    REQUIRE_FALSE(nowhere);
    CHECK(describe(nowhere.error()).contains("network namespace 1:"));
}

TEST_CASE("mounted namespaces are read from mountinfo") {
    std::istringstream mountinfo(
        "22 27 0:20 / /proc rw,nosuid shared:12 - proc proc rw\n"
        "530 25 0:4 net:[4026532567] /run/netns/blue shared:290 - nsfs nsfs rw\n"
        "531 25 0:4 net:[4026532568] /run/docker/netns/with\\040blank\\134 rw - nsfs nsfs rw\n"
        "532 25 0:4 mnt:[4026532569] /run/snapd/ns/x.mnt rw - nsfs nsfs rw\n"
        "533 25 0:4 net:[99999999999] /run/netns/large rw - nsfs nsfs rw\n"
        "534 25 0:4 net:[] /run/netns/none rw - nsfs nsfs rw\n"
        "535 25 0:5 net:[4026532570] /somewhere rw - ext4 /dev/sda rw\n"
        "short\n"
        "\n");
    const auto places = parse_netns_mounts(mountinfo);
    REQUIRE(places.size() == 2);
    CHECK(places[0].inode == 4026532567);
    CHECK(places[0].path == "/run/netns/blue");
    CHECK(places[1].path == "/run/docker/netns/with blank\\");
    CHECK_FALSE(places[1].pid);
}
