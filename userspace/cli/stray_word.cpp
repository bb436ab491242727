// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/stray_word.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "base/shell.hpp"
#include "cli/options.hpp"

namespace hptrace {

namespace {

using Words = std::vector<std::string>;

// Letters to insert, remove or replace (Levenshtein).
std::size_t distance(std::string_view one, std::string_view other) {
    std::vector<std::size_t> row(other.size() + 1);
    std::iota(row.begin(), row.end(), 0U);
    for (std::size_t i = 0; i < one.size(); ++i) {
        auto diagonal = std::exchange(row[0], i + 1);
        for (std::size_t j = 0; j < other.size(); ++j) {
            const auto replaced = diagonal + (one[i] == other[j] ? 0U : 1U);
            diagonal = row[j + 1];
            row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
        }
    }
    return row.back();
}

std::optional<std::string_view> command_like(std::string_view word) {
    constexpr std::size_t longest = 16;  // of a word that can be one, mistyped
    const auto typos = std::max<std::size_t>(1, word.size() / 3);
    if (word.size() > longest) {
        return std::nullopt;
    }
    const auto nearest = std::ranges::min(command_names, {}, [word](auto name) { return distance(word, name); });
    return distance(word, nearest) <= typos ? std::optional(nearest) : std::nullopt;
}

Error instead(std::string what, const Words& line) {
    return {std::move(what), 0, "did you mean: hptrace " + shell_command(line)};
}

}  // namespace

Error stray_word(std::string_view command, std::span<const std::string> arguments, std::size_t position) {
    const auto& word = arguments[position];
    const auto at = static_cast<std::ptrdiff_t>(position);
    Words line(arguments.begin(), arguments.end());

    if (const auto name = command_like(word); name && (position == 0 || *name == word)) {
        line.erase(line.begin() + at);
        line.insert(line.begin(), std::string(*name));
        return instead(position == 0 ? fmt::format("unknown command '{}'", word)
                                     : fmt::format("the command '{}' must come first", word),
                       line);
    }
    if (command != "doctor" && parse_ports(word)) {
        line.insert(line.begin() + at, "--port");
        return instead(fmt::format("'{}' belongs to no option", word), line);
    }
    if (command == "audit") {
        line.insert(line.begin() + at, "--from");
        return instead(fmt::format("'{}' belongs to no option; the folder of a dump comes after --from", word), line);
    }
    if (command == "doctor") {
        return {fmt::format("'{}' belongs to no option, and doctor takes nothing else", word), 0, "see hptrace --help"};
    }
    line.insert(line.begin() + at, "--");
    return instead(fmt::format("{} '{}'; a COMMAND to trace comes after --",
                               position == 0 ? "unknown command" : "no option takes", word),
                   line);
}

}  // namespace hptrace
