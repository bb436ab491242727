// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

namespace hptrace {

// A number that differs if what was added differs, but for a chance of 2^-64. For comparing what one process reads at
// different times: not stable between versions, not safe against someone who wants two things to look the same.
class Fingerprint {
public:
    // Some bytes; where they end makes a difference. As fast as memory is: two lanes, each 16 bytes per multiplication.
    void add(std::span<const std::byte> bytes) {
        std::uint64_t left = value_ ^ bytes.size();
        std::uint64_t right = value_ ^ keys[0];
        while (bytes.size() >= lane) {
            left = fold(word(bytes, 0) ^ keys[1], word(bytes, 1) ^ left);
            if (bytes.size() >= 2 * lane) {
                right = fold(word(bytes, 2) ^ keys[2], word(bytes, 3) ^ right);
                bytes = bytes.subspan(lane);
            }
            bytes = bytes.subspan(lane);
        }
        if (!bytes.empty()) {
            std::byte rest[lane]{};
            std::memcpy(rest, bytes.data(), bytes.size());
            right = fold(word(rest, 0) ^ keys[3], word(rest, 1) ^ right);
        }
        value_ = fold(left ^ keys[0], right ^ keys[1]);
    }
    void add(std::string_view text) { add(std::as_bytes(std::span(text))); }
    template <class T>
        requires std::integral<T> || std::is_enum_v<T>
    void add(T number) {
        value_ = fold(static_cast<std::uint64_t>(number) ^ keys[2], value_ ^ keys[3]);
    }

    [[nodiscard]] std::uint64_t value() const { return value_; }

private:
    static constexpr std::size_t lane = 2 * sizeof(std::uint64_t);
    // Odd, half of the bits set, as wyhash wants them; these are its own.
    static constexpr std::uint64_t keys[]{0xa0761d6478bd642fU, 0xe7037ed1a0b428dbU, 0x8ebc6af09c88c6e3U,
                                          0x589965cc75374cc3U};

    static std::uint64_t word(std::span<const std::byte> bytes, std::size_t index) {
        std::uint64_t word = 0;
        std::memcpy(&word, bytes.data() + index * sizeof(word), sizeof(word));
        return word;
    }

    // wyhash's (https://github.com/wangyi-fudan/wyhash, public domain): the product of both, folded. With the factors
    // added again, so that a zero does not wipe out what came before.
    static std::uint64_t fold(std::uint64_t a, std::uint64_t b) {
        __extension__ using Product = unsigned __int128;
        const auto product = static_cast<Product>(a) * b;
        return (a ^ static_cast<std::uint64_t>(product)) ^ (b ^ static_cast<std::uint64_t>(product >> 64U));
    }

    std::uint64_t value_ = 0;
};

}  // namespace hptrace
