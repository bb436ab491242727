// SPDX-License-Identifier: GPL-2.0-or-later
#include "capture/module_watch.hpp"

#include <catch2/catch_test_macros.hpp>

using namespace hptrace;
using namespace std::string_literals;

TEST_CASE("modules that come and go are recognised") {
    CHECK(parse_uevent("add@/module/nf_nat\0ACTION=add\0DEVPATH=/module/nf_nat\0SUBSYSTEM=module\0SEQNUM=1801\0"s) ==
          ModuleChange{"nf_nat", true});
    CHECK(parse_uevent("remove@/module/ip_vs\0ACTION=remove\0"s) == ModuleChange{"ip_vs", false});
    CHECK(parse_uevent("add@/module/x") == ModuleChange{"x", true});
}

TEST_CASE("what is no module, or no message, is left alone") {
    for (const auto& message :
         {""s, "\0"s, "add@/module/"s, "add@/module/nf_nat/drivers/x"s, "change@/module/nf_nat"s, "remove@/modul"s,
          "add@/devices/virtual/net/veth0\0ACTION=add\0"s, "libudev\0\xfe\xed\xca\xfe"s}) {
        CHECK_FALSE(parse_uevent(message));
    }
}

TEST_CASE("listening waits for nothing") {
    auto watch = ModuleWatch::open();
    REQUIRE(watch);
    CHECK(watch->take());
}
