// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/address.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/number.hpp"

namespace hptrace {

int to_af(Family family) {
    return family == Family::ipv4 ? AF_INET : AF_INET6;
}

std::optional<Family> family_from_af(int af) {
    switch (af) {
        case AF_INET:
            return Family::ipv4;
        case AF_INET6:
            return Family::ipv6;
        default:
            return std::nullopt;
    }
}

std::string_view to_string(Protocol protocol) {
    switch (protocol) {
        case Protocol::tcp:
            return "tcp";
        case Protocol::udp:
            return "udp";
        case Protocol::sctp:
            return "sctp";
    }
    return "?";
}

std::optional<Protocol> parse_protocol(std::string_view text) {
    const auto same = [text](std::string_view name) {
        return std::ranges::equal(text, name, [](char a, char b) { return (a | 0x20) == b; });
    };
    for (const auto protocol : {Protocol::tcp, Protocol::udp, Protocol::sctp}) {
        if (same(to_string(protocol))) {
            return protocol;
        }
    }
    return std::nullopt;
}

std::optional<Protocol> protocol_from_number(std::uint8_t number) {
    switch (number) {
        case IPPROTO_TCP:
            return Protocol::tcp;
        case IPPROTO_UDP:
            return Protocol::udp;
        case IPPROTO_SCTP:
            return Protocol::sctp;
        default:
            return std::nullopt;
    }
}

bool Address::is_loopback() const {
    if (family == Family::ipv4) {
        return bytes[0] == 127;
    }
    return bytes[15] == 1 && std::all_of(bytes.begin(), bytes.end() - 1, [](auto b) { return b == 0; });
}

bool Address::is_unspecified() const {
    return std::ranges::all_of(bytes, [](auto b) { return b == 0; });
}

Address make_address(Family family, std::span<const std::uint8_t> bytes) {
    Address address{.family = family};
    std::copy_n(bytes.begin(), address.size(), address.bytes.begin());
    return address;
}

std::optional<Address> parse_address(std::string_view text) {
    if (text.size() >= INET6_ADDRSTRLEN || text.contains('\0')) {  // inet_pton() would not see what is behind a zero
        return std::nullopt;
    }
    const std::string zero_terminated(text);
    for (const auto family : {Family::ipv4, Family::ipv6}) {
        Address address{.family = family};
        if (inet_pton(to_af(family), zero_terminated.c_str(), address.bytes.data()) == 1) {
            return address;
        }
    }
    return std::nullopt;
}

std::string to_string(const Address& address) {
    std::array<char, INET6_ADDRSTRLEN> text{};
    inet_ntop(to_af(address.family), address.bytes.data(), text.data(), text.size());
    return text.data();
}

Address Prefix::masked() const {
    auto network = address;
    const std::size_t whole = length / 8;
    for (std::size_t i = whole; i < network.size(); ++i) {
        const unsigned kept = i == whole ? length % 8 : 0;
        network.bytes.at(i) &= static_cast<std::uint8_t>(0xff00U >> kept);
    }
    return network;
}

bool Prefix::contains(const Address& other) const {
    if (other.family != address.family) {
        return false;
    }
    const std::size_t whole = length / 8;
    if (!std::equal(address.bytes.begin(), address.bytes.begin() + static_cast<std::ptrdiff_t>(whole),
                    other.bytes.begin())) {
        return false;
    }
    const unsigned rest = length % 8;
    if (rest == 0) {
        return true;
    }
    const auto mask = static_cast<std::uint8_t>(0xff00U >> rest);
    return (address.bytes.at(whole) & mask) == (other.bytes.at(whole) & mask);
}

std::optional<Prefix> parse_prefix(std::string_view text) {
    const auto slash = text.find('/');
    const auto address = parse_address(text.substr(0, slash));
    if (!address) {
        return std::nullopt;
    }
    const auto bits = static_cast<unsigned>(address->size() * 8);
    if (slash == std::string_view::npos) {
        return Prefix{*address, static_cast<std::uint8_t>(bits)};
    }
    const auto length = parse_number<std::uint8_t>(text.substr(slash + 1));
    if (!length || *length > bits) {
        return std::nullopt;
    }
    return Prefix{*address, *length};
}

std::string to_string(const Prefix& prefix) {
    return fmt::format("{}/{}", to_string(prefix.address), prefix.length);
}

std::string to_string(const Endpoint& endpoint) {
    return endpoint.ip.family == Family::ipv4 ? fmt::format("{}:{}", to_string(endpoint.ip), endpoint.port)
                                              : fmt::format("[{}]:{}", to_string(endpoint.ip), endpoint.port);
}

std::optional<Endpoint> parse_endpoint(std::string_view text) {
    const auto colon = text.rfind(':');
    if (colon == std::string_view::npos || colon == 0) {
        return std::nullopt;
    }
    auto host = text.substr(0, colon);
    const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
    if (bracketed) {
        host = host.substr(1, host.size() - 2);
    }
    const auto ip = parse_address(host);
    const auto port = parse_number<std::uint16_t>(text.substr(colon + 1));
    if (!ip || !port || bracketed != (ip->family == Family::ipv6)) {
        return std::nullopt;
    }
    return Endpoint{*ip, *port};
}

}  // namespace hptrace

std::size_t std::hash<hptrace::Address>::operator()(const hptrace::Address& address) const noexcept {
    std::array<std::uint64_t, 2> words{};
    std::memcpy(words.data(), address.bytes.data(), sizeof(words));
    return std::hash<std::uint64_t>{}(words[0] * 0x9e3779b97f4a7c15U ^ words[1]) ^
           static_cast<std::size_t>(address.family);
}

std::size_t std::hash<hptrace::Endpoint>::operator()(const hptrace::Endpoint& endpoint) const noexcept {
    return std::hash<hptrace::Address>{}(endpoint.ip) * 31U + endpoint.port;
}
