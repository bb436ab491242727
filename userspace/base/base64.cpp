// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/base64.hpp"

#include <cstddef>
#include <cstdint>

namespace hptrace {

namespace {

constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

}  // namespace

std::optional<std::string> decode_base64(std::string_view text) {
    std::string bytes;
    std::uint32_t group = 0;  // 6 bits of each of its characters so far
    std::size_t characters = 0;
    std::size_t padding = 0;
    for (const char c : text) {
        if (c == '\r' || c == '\n') {
            continue;
        }
        if (c == '=' && characters >= 2) {
            ++padding;
        } else if (const auto value = alphabet.find(c); value != std::string_view::npos && padding == 0) {
            group |= static_cast<std::uint32_t>(value) << (18 - 6 * characters);
        } else {
            return std::nullopt;
        }
        if (++characters < 4) {
            continue;
        }
        for (std::size_t i = 0; i + padding < 3; ++i) {
            bytes += static_cast<char>(group >> (16 - 8 * i) & 0xffU);
        }
        group = 0;
        characters = 0;
    }
    return characters == 0 ? std::optional(std::move(bytes)) : std::nullopt;
}

}  // namespace hptrace
