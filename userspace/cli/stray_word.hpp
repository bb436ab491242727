// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace hptrace {

inline constexpr std::array<std::string_view, 3> command_names{"trace", "audit", "doctor"};

// What is wrong with a word of the command line that is no option and no value of one, with the command line that was
// probably meant. command: whose line it is. arguments: all of them, without the program's name. position: the word's.
Error stray_word(std::string_view command, std::span<const std::string> arguments, std::size_t position);

}  // namespace hptrace
