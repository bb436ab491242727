// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <charconv>
#include <memory>
#include <optional>
#include <string_view>
#include <system_error>
#include <type_traits>

namespace hptrace {

// The whole text as a number, without sign, blanks or prefix unless T has a sign; nothing if it is none or does not
// fit. `base`: of integers.
template <class T>
std::optional<T> parse_number(std::string_view text, int base = 10) {
    T value{};
    const auto* const begin = std::to_address(text.begin());
    const auto* const end = std::to_address(text.end());
    std::from_chars_result result{};
    if constexpr (std::is_integral_v<T>) {
        result = std::from_chars(begin, end, value, base);
    } else {
        result = std::from_chars(begin, end, value);
    }
    return result.ec == std::errc{} && result.ptr == end ? std::optional(value) : std::nullopt;
}

}  // namespace hptrace
