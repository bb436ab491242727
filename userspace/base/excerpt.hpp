// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace hptrace {

// What a message quotes of a text that others wrote: all of it up to `most` bytes, else its beginning and "...". A
// character of UTF-8 is not cut in two.
inline std::string excerpt(std::string_view text, std::size_t most = 80) {
    if (text.size() <= most) {
        return std::string(text);
    }
    std::size_t end = most;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0U) == 0x80U) {
        --end;
    }
    return std::string(text.substr(0, end)) + "...";
}

}  // namespace hptrace
