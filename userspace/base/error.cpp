// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/error.hpp"

#include <fmt/format.h>

#include <system_error>
#include <utility>

namespace hptrace {

std::string describe(const Error& error) {
    std::string text = error.what;
    if (error.code != 0) {
        text += fmt::format(": {}", std::generic_category().message(error.code));
    }
    if (!error.hint.empty()) {
        text += fmt::format(" ({})", error.hint);
    }
    return text;
}

std::unexpected<Error> system_error(std::string what, int code, std::string hint) {
    return std::unexpected(Error{std::move(what), code, std::move(hint)});
}

std::unexpected<Error> failure(std::string what, std::string hint) {
    return std::unexpected(Error{std::move(what), 0, std::move(hint)});
}

}  // namespace hptrace
