// SPDX-License-Identifier: GPL-2.0-or-later
// Values that the tests of what names pods use.
#pragma once

#include <string>
#include <string_view>

#include "base/address.hpp"
#include "base/root_folder.hpp"

namespace hptrace::test {

// Container ids.
inline const std::string id_a(64, 'a');
inline const std::string id_b(64, 'b');

inline Address address(std::string_view text) {
    return parse_address(text).value();
}

// The root under which every path is what it is.
inline RootFolder whole_node() {
    return RootFolder::open("/").value();
}

}  // namespace hptrace::test
