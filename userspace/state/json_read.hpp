// SPDX-License-Identifier: GPL-2.0-or-later
// JSON of other programs, read without trusting its shape: what is missing or of another type is absent.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace hptrace {

// An object or array. Error: what it is instead, or the line where it stops to be JSON; no exception of the library
// gets out.
Result<nlohmann::json> parse_json(std::string_view text);

// Null: not an object, or without this member.
const nlohmann::json* member(const nlohmann::json& object, std::string_view key);

// The member as a text or an integer; nothing: there is none of that type.
std::optional<std::string> text_of(const nlohmann::json& object, std::string_view key);
std::optional<std::int64_t> number_of(const nlohmann::json& object, std::string_view key);
// The value itself as an integer.
std::optional<std::int64_t> as_number(const nlohmann::json& value);

}  // namespace hptrace
