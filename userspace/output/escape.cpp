// SPDX-License-Identifier: GPL-2.0-or-later
#include "output/escape.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace hptrace {

namespace {

bool is_printable(char character) {
    return character >= 0x20 && character < 0x7f;
}

}  // namespace

std::string escape(std::string_view text) {
    std::string escaped;
    escaped.reserve(text.size());
    while (!text.empty()) {
        const auto harmless = static_cast<std::size_t>(std::ranges::find_if_not(text, is_printable) - text.begin());
        escaped += text.substr(0, harmless);
        text.remove_prefix(harmless);
        if (!text.empty()) {
            escaped += fmt::format("\\x{:02x}", static_cast<unsigned char>(text.front()));
            text.remove_prefix(1);
        }
    }
    return escaped;
}

}  // namespace hptrace
