// SPDX-License-Identifier: GPL-2.0-or-later
#include "output/escape.hpp"

#include <fmt/format.h>

namespace hptrace {

std::string escape(std::string_view text) {
    std::string escaped;
    escaped.reserve(text.size());
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 0x20 && byte < 0x7f) {
            escaped += c;
        } else {
            escaped += fmt::format("\\x{:02x}", byte);
        }
    }
    return escaped;
}

}  // namespace hptrace
