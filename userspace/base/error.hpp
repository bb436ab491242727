// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cerrno>
#include <expected>
#include <string>

namespace hptrace {

// An expected failure: what was tried, the errno (0: none) and what the reader can do about it (may be empty).
struct Error {
    std::string what;
    int code = 0;
    std::string hint;
};

template <class T>
using Result = std::expected<T, Error>;

// One line for people: "what: errno text (hint)".
std::string describe(const Error& error);

// An Error carrying errno as it is now (or `code`), ready to be returned from a Result function.
std::unexpected<Error> system_error(std::string what, int code = errno, std::string hint = {});

// An Error without errno.
std::unexpected<Error> failure(std::string what, std::string hint = {});

}  // namespace hptrace
