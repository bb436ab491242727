// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace hptrace {

enum class Paint : std::uint8_t { none, alarm, doubt };

// A line that is written for people or programs. What a Writer writes is made of these, so nothing gets to a terminal
// that was not made harmless (escape()): neither what names and comments hold nor what is forgotten to be escaped.
// Colour is no text, it is put in here.
class Line {
public:
    Line() = default;
    // Implicit: text is all that most lines are.
    template <std::convertible_to<std::string_view> Text>
    Line(const Text& text) {  // NOLINT(google-explicit-constructor)
        add(text);
    }

    Line& add(std::string_view text, Paint paint = Paint::none);
    // Blanks up to that column, counted from 0; none if the line is that long already.
    Line& pad_to(std::size_t column);

    // Characters it takes on a terminal.
    [[nodiscard]] std::size_t width() const { return width_; }
    // To be written as they are.
    [[nodiscard]] const std::string& bytes() const { return bytes_; }

private:
    std::string bytes_;
    std::size_t width_ = 0;
};

}  // namespace hptrace
