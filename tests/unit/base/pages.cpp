// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/pages.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cstring>

using namespace hptrace;

TEST_CASE("pages are zero, and what was given back is zero again, the rest is kept") {
    constexpr std::size_t size = (std::size_t{3} << 20U) + 17;
    auto pages = Pages::allocate(size);
    REQUIRE(pages);
    const auto bytes = pages->bytes();
    REQUIRE(bytes.size() == size);
    CHECK(std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{}; }));
    std::memset(bytes.data(), 1, bytes.size());
    pages->give_back(size - 1);
    CHECK(bytes.front() == std::byte{});
    CHECK(std::ranges::all_of(bytes.last(17), [](std::byte byte) { return byte == std::byte{1}; }));
    pages->give_back(size + 1);  // more than there is
    CHECK(bytes.back() == std::byte{1});
    Pages other = *std::move(pages);
    CHECK(other.bytes().data() == bytes.data());
    other = Pages();
    CHECK(other.bytes().empty());
}

TEST_CASE("no pages are pages too") {
    CHECK(Pages().bytes().empty());
    const auto none = Pages::allocate(0);
    REQUIRE(none);
    CHECK(none->bytes().empty());
}
