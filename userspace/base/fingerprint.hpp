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
    // Some bytes; where they end makes a difference.
    void add(std::span<const std::byte> bytes) {
        mix(bytes.size());
        for (; bytes.size() >= sizeof(std::uint64_t); bytes = bytes.subspan(sizeof(std::uint64_t))) {
            std::uint64_t word = 0;
            std::memcpy(&word, bytes.data(), sizeof(word));
            mix(word);
        }
        if (!bytes.empty()) {
            std::uint64_t word = 0;
            std::memcpy(&word, bytes.data(), bytes.size());
            mix(word);
        }
    }
    void add(std::string_view text) { add(std::as_bytes(std::span(text))); }
    template <class T>
        requires std::integral<T> || std::is_enum_v<T>
    void add(T number) {
        mix(static_cast<std::uint64_t>(number));
    }

    [[nodiscard]] std::uint64_t value() const { return value_; }

private:
    // The finalizer of MurmurHash3, for each word.
    void mix(std::uint64_t word) {
        value_ ^= word;
        value_ ^= value_ >> 33U;
        value_ *= 0xff51afd7ed558ccdU;
        value_ ^= value_ >> 33U;
        value_ *= 0xc4ceb9fe1a85ec53U;
        value_ ^= value_ >> 33U;
        value_ += 0x9e3779b97f4a7c15U;  // so that zeroes count
    }

    std::uint64_t value_ = 0;
};

}  // namespace hptrace
