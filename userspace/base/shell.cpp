// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/shell.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace hptrace {

namespace {

bool is_printable(char character) {
    return character >= 0x20 && character < 0x7f;
}

// Means nothing to a shell, wherever it stands in a word. '~' and '=' do at its beginning, so they are not here.
bool is_plain(char character) {
    constexpr std::string_view others = "%+,-./:@_";
    return (character >= 'a' && character <= 'z') || (character >= 'A' && character <= 'Z') ||
           (character >= '0' && character <= '9') || others.contains(character);
}

std::string ansi_c_quoted(std::string_view word) {
    std::string quoted = "$'";
    for (const char character : word) {
        if (character == '\'' || character == '\\') {
            quoted += '\\';
            quoted += character;
        } else if (is_printable(character)) {
            quoted += character;
        } else {  // three octal digits: a hexadecimal escape would take in digits that follow
            quoted += fmt::format("\\{:03o}", static_cast<unsigned char>(character));
        }
    }
    return quoted + '\'';
}

}  // namespace

std::string shell_quote(std::string_view word) {
    if (!std::ranges::all_of(word, is_printable)) {
        return ansi_c_quoted(word);
    }
    if (!word.empty() && std::ranges::all_of(word, is_plain)) {
        return std::string(word);
    }
    std::string quoted = "'";
    for (const char character : word) {
        if (character == '\'') {
            quoted += "'\\''";
        } else {
            quoted += character;
        }
    }
    return quoted + '\'';
}

std::string shell_command(std::span<const std::string> words) {
    std::string command;
    for (const auto& word : words) {
        command += command.empty() ? "" : " ";
        command += shell_quote(word);
    }
    return command;
}

std::string shell_command(std::initializer_list<std::string> words) {
    return shell_command(std::span(words.begin(), words.size()));
}

}  // namespace hptrace
