// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/presence.hpp"

#include <catch2/catch_test_macros.hpp>
#include <filesystem>

using namespace hptrace;

TEST_CASE("a subsystem in use is present", "[presence]") {
    // The kernel lists these files only once the subsystem has registered.
    CHECK((!std::filesystem::exists("/proc/net/nf_conntrack") || subsystem_present("nf_conntrack")));
    CHECK((!std::filesystem::exists("/proc/net/ip_vs") || subsystem_present("ip_vs")));
    CHECK((!std::filesystem::exists("/proc/net/ip_tables_names") || subsystem_present("ip_tables")));
}

TEST_CASE("what nobody has heard of is absent", "[presence]") {
    CHECK_FALSE(subsystem_present("no_such_module"));
    CHECK_FALSE(subsystem_present("ip_v"));  // a prefix of a module's name
}

TEST_CASE("ip_vs is present only where it is", "[presence]") {
    CHECK(subsystem_present("ip_vs") == std::filesystem::exists("/proc/net/ip_vs"));
}
