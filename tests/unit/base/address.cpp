// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/address.hpp"

#include <catch2/catch_test_macros.hpp>

#include "base/error.hpp"

using namespace hptrace;

TEST_CASE("addresses and endpoints survive a round trip") {
    for (const auto* text : {"10.96.0.10:3306", "0.0.0.0:0", "[2001:db8::1]:53", "[::]:65535"}) {
        const auto endpoint = parse_endpoint(text);
        REQUIRE(endpoint);
        CHECK(to_string(*endpoint) == text);
    }
}

TEST_CASE("what is no endpoint is refused") {
    for (const auto* text : {"", ":", "10.0.0.1", "10.0.0.1:", "10.0.0.1:65536", "10.0.0.1:-1", "10.0.0.1:1x",
                             "2001:db8::1:80", "[10.0.0.1]:80", "[2001:db8::1]", "host:80", "10.0.0.1 :80"}) {
        INFO(text);
        CHECK_FALSE(parse_endpoint(text));
    }
}

TEST_CASE("prefixes contain what they should") {
    CHECK(parse_prefix("10.0.0.0/8")->contains(*parse_address("10.255.0.1")));
    CHECK_FALSE(parse_prefix("10.0.0.0/8")->contains(*parse_address("11.0.0.1")));
    CHECK(parse_prefix("10.0.0.128/25")->contains(*parse_address("10.0.0.200")));
    CHECK_FALSE(parse_prefix("10.0.0.128/25")->contains(*parse_address("10.0.0.127")));
    CHECK(parse_prefix("0.0.0.0/0")->contains(*parse_address("1.2.3.4")));
    CHECK_FALSE(parse_prefix("0.0.0.0/0")->contains(*parse_address("::1")));
    CHECK(parse_prefix("2001:db8::/33")->contains(*parse_address("2001:db8:7fff::1")));
    CHECK_FALSE(parse_prefix("2001:db8::/33")->contains(*parse_address("2001:db8:8000::1")));
    CHECK(parse_prefix("10.0.0.7")->length == 32);
    for (const auto* text :
         {"10.0.0.0/33", "2001:db8::/129", "10.0.0.0/", "10.0.0.0/-1", "/8", "10.0.0/8", "10.0.0.0/8x"}) {
        INFO(text);
        CHECK_FALSE(parse_prefix(text));
    }
}

TEST_CASE("an address ends with its text") {
    using namespace std::string_literals;
    for (const auto& text : {"10.0.0.1\0"s, "10.0.0.1\0x"s, "fd00::1\0/64"s, "\0"s, "10.0.0.1" + std::string(100, ' '),
                             std::string(5UL * 1024 * 1024, '1')}) {
        CHECK_FALSE(parse_address(text));
        CHECK_FALSE(parse_prefix(text));
        CHECK_FALSE(parse_prefix(text + "/8"));
        CHECK_FALSE(parse_endpoint(text + ":80"));
    }
    CHECK(parse_address("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"));  // the longest there is
}

TEST_CASE("loopback is all of 127/8 and ::1 alone") {
    CHECK(parse_address("127.3.2.1")->is_loopback());
    CHECK(parse_address("::1")->is_loopback());
    CHECK_FALSE(parse_address("::2")->is_loopback());
    CHECK_FALSE(parse_address("128.0.0.1")->is_loopback());
}

TEST_CASE("protocols are read as people and CNI write them") {
    CHECK(parse_protocol("TCP") == Protocol::tcp);
    CHECK(parse_protocol("sctp") == Protocol::sctp);
    CHECK_FALSE(parse_protocol("icmp"));
    CHECK_FALSE(parse_protocol(""));
    CHECK_FALSE(protocol_from_number(1));
}

TEST_CASE("an error is one line with errno text and what to do") {
    CHECK(describe({"cannot open X", ENOENT, "create it"}) == "cannot open X: No such file or directory (create it)");
    CHECK(describe({"bad", 0, ""}) == "bad");
}
