// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/json_read.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/excerpt.hpp"

namespace hptrace {

using nlohmann::json;

Result<json> parse_json(std::string_view text) {
    const auto begin = text.find_first_not_of(" \t\r\n");
    if (begin == std::string_view::npos) {
        return failure("it is empty");
    }
    if (text[begin] != '{' && text[begin] != '[') {  // the tool's message, or its output for people
        const auto line = text.substr(begin, text.find_first_of("\r\n", begin) - begin);
        return failure(fmt::format("not JSON but '{}'", excerpt(line)));
    }
    try {
        return json::parse(text);
    } catch (const json::parse_error& error) {
        const auto at = std::min(error.byte, text.size());
        return failure(fmt::format("line {}: not JSON, or cut off", 1 + std::ranges::count(text.substr(0, at), '\n')));
    } catch (const json::exception& error) {  // a number that no type holds
        return failure("not understood", excerpt(error.what(), 200));
    }
}

const json* member(const json& object, std::string_view key) {
    if (!object.is_object()) {
        return nullptr;
    }
    const auto found = object.find(key);
    return found == object.end() ? nullptr : &*found;
}

std::optional<std::string> text_of(const json& object, std::string_view key) {
    const json* const value = member(object, key);
    return value != nullptr && value->is_string() ? std::optional(value->get<std::string>()) : std::nullopt;
}

std::optional<std::int64_t> as_number(const json& value) {
    if (!value.is_number_integer()) {
        return std::nullopt;
    }
    if (value.is_number_unsigned() &&
        value.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        return std::nullopt;
    }
    return value.get<std::int64_t>();
}

std::optional<std::int64_t> number_of(const json& object, std::string_view key) {
    const json* const value = member(object, key);
    return value == nullptr ? std::nullopt : as_number(*value);
}

}  // namespace hptrace
