// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/base64.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <string>

using namespace hptrace;

TEST_CASE("base64 is decoded") {
    // RFC 4648, section 10.
    CHECK(decode_base64("") == "");
    CHECK(decode_base64("Zg==") == "f");
    CHECK(decode_base64("Zm8=") == "fo");
    CHECK(decode_base64("Zm9v") == "foo");
    CHECK(decode_base64("Zm9vYg==") == "foob");
    CHECK(decode_base64("Zm9vYmE=") == "fooba");
    CHECK(decode_base64("Zm9vYmFy") == "foobar");
    CHECK(decode_base64("AP+/") == std::string("\0\xff\xbf", 3));
    CHECK(decode_base64("Zm9v\r\nYm\nFy\n") == "foobar");
}

TEST_CASE("what is not base64 is not decoded") {
    const auto* const text =
        GENERATE("Z", "Zg", "Zg=", "Zm8", "=", "====", "Z===", "Zg==Zg==", "Zg=v", "Zm9v=", "Zm9vYmFy====", " Zm9v",
                 "Zm9 v", "Zm9-", "Zm9_", "Zm9*", "\xc3\xa9", "\xff\xff\xff\xff", "Zm9\x80");
    CAPTURE(text);
    CHECK_FALSE(decode_base64(text));
}

TEST_CASE("every byte that is not of the alphabet is refused wherever it is") {
    for (int byte = 0; byte < 256; ++byte) {
        const auto c = static_cast<char>(byte);
        const bool allowed =
            (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
        for (std::size_t at = 0; at < 4; ++at) {
            std::string text = "AAAA";
            text[at] = c;
            CAPTURE(byte, at);
            CHECK(decode_base64(text).has_value() == (allowed || (c == '=' && at == 3)));
        }
    }
}
