// SPDX-License-Identifier: GPL-2.0-or-later
#include "output/line.hpp"

#include "output/escape.hpp"

namespace hptrace {

namespace {

constexpr std::string_view escape_sequence(Paint paint) {
    switch (paint) {
        case Paint::alarm:
            return "\x1b[1;31m";  // bold red
        case Paint::doubt:
            return "\x1b[33m";  // yellow
        case Paint::none:
            break;
    }
    return {};
}

}  // namespace

Line& Line::add(std::string_view text, Paint paint) {
    const auto harmless = escape(text);
    width_ += harmless.size();
    bytes_ += escape_sequence(paint);
    bytes_ += harmless;
    bytes_ += paint == Paint::none ? "" : "\x1b[0m";
    return *this;
}

Line& Line::pad_to(std::size_t column) {
    if (column > width_) {
        bytes_.append(column - width_, ' ');
        width_ = column;
    }
    return *this;
}

}  // namespace hptrace
