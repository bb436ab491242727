// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/pages.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>

using namespace hptrace;

TEST_CASE("pages are zero, and stay where they are when they are moved") {
    constexpr std::size_t size = (std::size_t{3} << 20U) + 17;
    auto pages = Pages::allocate(size);
    REQUIRE(pages);
    const auto bytes = pages->bytes();
    REQUIRE(bytes.size() == size);
    CHECK(std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{}; }));
    bytes.back() = std::byte{1};
    Pages other = *std::move(pages);
    CHECK(other.bytes().data() == bytes.data());
    CHECK(other.bytes().back() == std::byte{1});
    other = Pages();
    CHECK(other.bytes().empty());
}

TEST_CASE("no pages are pages too") {
    CHECK(Pages().bytes().empty());
    const auto none = Pages::allocate(0);
    REQUIRE(none);
    CHECK(none->bytes().empty());
}
