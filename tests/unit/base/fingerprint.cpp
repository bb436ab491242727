// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/fingerprint.hpp"

#include <algorithm>
#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <random>
#include <set>
#include <vector>

using namespace hptrace;

namespace {

std::uint64_t fingerprint_of(std::span<const std::byte> bytes) {
    Fingerprint print;
    print.add(bytes);
    return print.value();
}

}  // namespace

TEST_CASE("every bit of what is added makes a difference, and about half of the number's bits") {
    std::mt19937_64 random(1);
    int differing = 0;
    int changes = 0;
    for (std::size_t size = 1; size <= 100; ++size) {
        std::vector<std::byte> bytes(size);
        std::ranges::generate(bytes, [&] { return static_cast<std::byte>(random()); });
        const auto before = fingerprint_of(bytes);
        for (std::size_t bit = 0; bit < 8 * size; ++bit) {
            auto changed = bytes;
            changed[bit / 8] ^= std::byte{1} << (bit % 8);
            const int bits = std::popcount(fingerprint_of(changed) ^ before);
            CHECK(bits > 0);
            differing += bits;
            ++changes;
        }
    }
    CHECK(differing / changes >= 30);
    CHECK(differing / changes <= 33);
}

TEST_CASE("things that look alike have fingerprints of their own") {
    std::set<std::uint64_t> seen;
    std::size_t added = 0;
    const auto add = [&](std::uint64_t print) {
        seen.insert(print);
        ++added;
    };
    const std::vector<std::byte> zeroes(300);
    for (std::size_t size = 0; size <= zeroes.size(); ++size) {
        add(fingerprint_of(std::span(zeroes).first(size)));  // where they end
    }
    for (std::uint64_t number = 0; number < 100'000; ++number) {
        Fingerprint print;
        print.add(number);
        add(print.value());
    }
    for (std::size_t place = 0; place < 1000; ++place) {  // two values that changed places
        std::vector<std::uint32_t> values(1000);
        values[place] = 1;
        values[(place + 1) % 1000] = 2;
        add(fingerprint_of(std::as_bytes(std::span(values))));
    }
    Fingerprint one_piece;
    one_piece.add("ab");
    one_piece.add("c");
    add(one_piece.value());
    Fingerprint another;
    another.add("a");
    another.add("bc");
    add(another.value());
    CHECK(seen.size() == added);
}

TEST_CASE("nothing that is added hides what was added before it") {
    for (const auto hiding :
         {0ULL, ~0ULL, 0xa0761d6478bd642fULL, 0xe7037ed1a0b428dbULL, 0x8ebc6af09c88c6e3ULL,
          0x589965cc75374cc3ULL}) {  // the second factor of a multiplication, and what makes it zero
        std::set<std::uint64_t> seen;
        for (std::uint64_t first = 0; first < 100; ++first) {
            const std::vector<std::uint64_t> words{first, first, first, first, hiding, hiding, hiding, hiding};
            seen.insert(fingerprint_of(std::as_bytes(std::span(words))));
            Fingerprint numbers;
            numbers.add(first);
            numbers.add(hiding);
            seen.insert(numbers.value());
        }
        CHECK(seen.size() == 200);
    }
}
