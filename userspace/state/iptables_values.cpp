// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/iptables_values.hpp"

#include <algorithm>
#include <array>
#include <span>

#include "state/ruleset.hpp"
#include "state/save_text.hpp"

namespace hptrace {
namespace {

// Address types in the order of their RTN_* numbers (libxt_addrtype.c).
constexpr std::array<std::string_view, 12> address_types{"UNSPEC",   "UNICAST",   "LOCAL",     "BROADCAST",
                                                         "ANYCAST",  "MULTICAST", "BLACKHOLE", "UNREACHABLE",
                                                         "PROHIBIT", "THROW",     "NAT",       "XRESOLVE"};

// "80", "80-90"; with "/100" behind it the ports are counted from there, which names no other target.
bool add_ports(std::string_view text, NatRange& range) {
    const auto ports = parse_port_range(text.substr(0, text.find('/')), '-');
    if (ports) {
        range.first.port = ports->first;
        range.last.port = ports->last;
    }
    return ports.has_value();
}

bool add_addresses(std::string_view text, Family family, NatRange& range) {
    const auto dash = text.find('-');
    const auto first = parse_address(text.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : parse_address(text.substr(dash + 1));
    if (!first || !last || first->family != family || last->family != family) {
        return false;
    }
    range.first.ip = *first;
    range.last.ip = *last;
    return true;
}

}  // namespace

std::optional<unsigned> parse_address_types(std::string_view text) {
    unsigned types = 0;
    for (const auto name : split(text, ',')) {
        const auto* const known = std::ranges::find(address_types, name);
        if (known == address_types.end()) {
            return std::nullopt;
        }
        types |= 1U << static_cast<unsigned>(known - address_types.begin());
    }
    return types;
}

std::optional<Masked> parse_masked(std::string_view text, Family family) {
    const auto slash = text.find('/');
    const auto address = parse_address(text.substr(0, slash));
    if (!address || address->family != family) {
        return std::nullopt;
    }
    if (const auto prefix = parse_prefix(text)) {
        return Masked{.address = *address, .length = prefix->length};
    }
    const auto mask = slash == std::string_view::npos ? std::nullopt : parse_address(text.substr(slash + 1));
    if (!mask || mask->family != family) {
        return std::nullopt;
    }
    return Masked{.address = *address, .length = mask_length(std::span(mask->bytes).first(mask->size()))};
}

NatRange unchanged(Family family) {
    const Endpoint endpoint{.ip = Address{.family = family, .bytes = {}}};
    return {.first = endpoint, .last = endpoint};
}

std::optional<NatRange> parse_nat_ports(std::string_view text, Family family) {
    NatRange range = unchanged(family);
    return add_ports(text, range) ? std::optional(range) : std::nullopt;
}

std::optional<NatRange> parse_nat_range(std::string_view text, Family family) {
    NatRange range = unchanged(family);
    std::string_view addresses = text;
    std::string_view ports;
    if (text.starts_with('[')) {
        const auto end = text.find("]:");
        if (end == std::string_view::npos) {
            return std::nullopt;
        }
        addresses = text.substr(1, end - 1);
        ports = text.substr(end + 2);
    } else if (family == Family::ipv4 || (text.starts_with(':') && !text.starts_with("::"))) {
        const auto colon = text.find(':');
        addresses = text.substr(0, colon);
        ports = colon == std::string_view::npos ? std::string_view{} : text.substr(colon + 1);
        if (colon != std::string_view::npos && ports.empty()) {
            return std::nullopt;
        }
    }
    const bool fits = (!addresses.empty() || !ports.empty()) &&
                      (addresses.empty() || add_addresses(addresses, family, range)) &&
                      (ports.empty() || add_ports(ports, range));
    return fits ? std::optional(range) : std::nullopt;
}

}  // namespace hptrace
