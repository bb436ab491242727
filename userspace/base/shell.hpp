// SPDX-License-Identifier: GPL-2.0-or-later
// Commands that are printed for people to copy into a shell.
#pragma once

#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

namespace hptrace {

// The word as a POSIX shell reads it back: as it is where that is safe, else in single quotes. With bytes that are not
// printable ASCII it becomes $'...' (bash, ksh, zsh, POSIX 2024), so that what is seen is what is meant.
std::string shell_quote(std::string_view word);

// The words, each quoted, with blanks between them: a command line.
std::string shell_command(std::span<const std::string> words);
std::string shell_command(std::initializer_list<std::string> words);

}  // namespace hptrace
