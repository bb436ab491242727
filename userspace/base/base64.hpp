// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace hptrace {

// What the standard alphabet of RFC 4648 (section 4) encodes; nothing: it is not that, or its padding is missing. Ends
// of lines are passed over, as Go's encoding/base64 does, by which kubectl reads its configuration.
std::optional<std::string> decode_base64(std::string_view text);

}  // namespace hptrace
