// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace hptrace {

enum class Family : std::uint8_t { ipv4 = 4, ipv6 = 6 };

// AF_INET or AF_INET6 for the family, and back (nothing for any other value).
int to_af(Family family);
std::optional<Family> family_from_af(int af);

// IANA protocol numbers of the protocols a Service or a hostPort can have.
enum class Protocol : std::uint8_t { tcp = 6, udp = 17, sctp = 132 };

std::string_view to_string(Protocol protocol);                  // "tcp", "udp", "sctp"
std::optional<Protocol> parse_protocol(std::string_view text);  // case-insensitive
std::optional<Protocol> protocol_from_number(std::uint8_t number);

// An IPv4 or IPv6 address, bytes in network order (IPv4 uses the first four, the rest stays zero).
struct Address {
    Family family = Family::ipv4;
    std::array<std::uint8_t, 16> bytes{};

    auto operator<=>(const Address&) const = default;

    [[nodiscard]] std::size_t size() const { return family == Family::ipv4 ? 4 : 16; }
    [[nodiscard]] bool is_loopback() const;     // 127.0.0.0/8, ::1
    [[nodiscard]] bool is_unspecified() const;  // 0.0.0.0, ::
};

// The address in `bytes` (at least 4 or 16 of them, network order).
Address make_address(Family family, std::span<const std::uint8_t> bytes);
// Numeric text only; nothing if it is not an address.
std::optional<Address> parse_address(std::string_view text);
std::string to_string(const Address& address);

struct Prefix {
    Address address;  // host bits are kept as given
    std::uint8_t length = 0;

    auto operator<=>(const Prefix&) const = default;

    [[nodiscard]] bool contains(const Address& other) const;
    // The address without its host bits. `length` may be no longer than the address.
    [[nodiscard]] Address masked() const;
};

// "10.0.0.0/8"; a bare address is a host prefix.
std::optional<Prefix> parse_prefix(std::string_view text);
std::string to_string(const Prefix& prefix);

// One end of a tuple; port in host byte order.
struct Endpoint {
    Address ip;
    std::uint16_t port = 0;

    auto operator<=>(const Endpoint&) const = default;
};

// "10.0.0.1:80", "[2001:db8::1]:80".
std::string to_string(const Endpoint& endpoint);
std::optional<Endpoint> parse_endpoint(std::string_view text);

struct PortRange {
    std::uint16_t first = 0;  // inclusive, host byte order
    std::uint16_t last = 65535;

    auto operator<=>(const PortRange&) const = default;

    [[nodiscard]] bool contains(std::uint16_t port) const { return first <= port && port <= last; }
};

}  // namespace hptrace

template <>
struct std::hash<hptrace::Address> {
    std::size_t operator()(const hptrace::Address& address) const noexcept;
};
template <>
struct std::hash<hptrace::Endpoint> {
    std::size_t operator()(const hptrace::Endpoint& endpoint) const noexcept;
};
