// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.hpp"
#include "base/error.hpp"
#include "state/netlink.hpp"

namespace hptrace {

// One member, as far as its set's type has these dimensions.
struct SetMember {
    std::optional<Address> ip;
    std::optional<std::uint16_t> port;
    std::optional<std::uint8_t> protocol;  // IPPROTO_*

    auto operator<=>(const SetMember&) const = default;
};

struct IpSet {
    std::string name;
    std::string type;  // "hash:ip,port", "bitmap:port", ...
    std::vector<SetMember> members;

    [[nodiscard]] bool contains(const SetMember& member) const;
};

// The ipsets of the calling thread's network namespace whose name begins with `name_prefix`, with their members.
// Empty if ip_set is not present: asking would load it. Error: EPERM, truncated answers.
Result<std::vector<IpSet>> read_ipsets(std::string_view name_prefix);

// Adds what one IPSET_CMD_LIST message says to `sets`: a large set comes in several messages, and only the first of
// them has its type. Error: truncated or malformed.
Result<void> parse_ipset(const Message& message, std::vector<IpSet>& sets);

}  // namespace hptrace
