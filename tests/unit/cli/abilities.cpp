// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/abilities.hpp"

#include <linux/capability.h>

#include <catch2/catch_test_macros.hpp>

#include "capture/obstacles.hpp"

using namespace hptrace;

TEST_CASE("what cannot be traced can be audited all the same, and each is said with why not") {
    const auto abilities = find_abilities(Error{"no probe", 0, "try that"});
    REQUIRE(abilities.size() == 3);
    CHECK(abilities[0].name == "trace");
    CHECK_FALSE(abilities[0].works);
    CHECK(abilities[0].why == "no probe (try that)");
    CHECK(abilities[1].name == "audit");
    CHECK(abilities[2].name == "--existing");
    const bool may_read = has_capability(CAP_NET_ADMIN);
    for (std::size_t i = 1; i < abilities.size(); ++i) {
        CHECK(abilities[i].works == may_read);
        CHECK((may_read || abilities[i].why.contains("CAP_NET_ADMIN")));
    }
    const auto traced = find_abilities(std::nullopt);
    CHECK(traced[0].works);
    CHECK(traced[0].why.empty());
}

TEST_CASE("a trace that is refused names what works instead, to who may do it") {
    const bool may_read = has_capability(CAP_NET_ADMIN);
    for (const auto* hint : {"", "try that"}) {
        const auto text = describe(with_alternatives({"no probe", 0, hint}));
        CAPTURE(text);
        CHECK(text.starts_with("no probe"));
        CHECK(text.contains(hint));
        CHECK(text.contains("hptrace audit") == may_read);
        CHECK(text.contains("hptrace --existing") == may_read);
        CHECK_FALSE(text.contains("(;"));
    }
}
