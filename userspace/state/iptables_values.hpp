// SPDX-License-Identifier: GPL-2.0-or-later
// The values of options as iptables-save prints them.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/address.hpp"

namespace hptrace {

struct Masked {
    Address address;
    std::optional<std::uint8_t> length;  // nothing: the mask has holes
};

// "10.0.0.0/9", or with the mask as an address, which is how masks with holes are printed.
std::optional<Masked> parse_masked(std::string_view text, Family family);

// "UNICAST,LOCAL" of addrtype: a bit per type, by its RTN_* number. Nothing: one of them is unknown.
std::optional<unsigned> parse_address_types(std::string_view text);
constexpr unsigned local_address_type = 1U << 2U;

// What DNAT and its like put into a packet; an unspecified address or port 0 is left as it was.
struct NatRange {
    Endpoint first;
    Endpoint last;
};
NatRange unchanged(Family family);

// "10.0.0.1:80", "10.0.0.1-10.0.0.4:80-90", ":80", "10.0.0.1", "[fd00::1]:80", "[fd00::1-fd00::4]:80-90", "fd00::1".
std::optional<NatRange> parse_nat_range(std::string_view text, Family family);
// "80" or "80-90" of REDIRECT.
std::optional<NatRange> parse_nat_ports(std::string_view text, Family family);

}  // namespace hptrace
