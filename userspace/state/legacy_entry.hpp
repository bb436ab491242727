// SPDX-License-Identifier: GPL-2.0-or-later
// Inside the reading of iptables-legacy: the pieces a table's blob consists of.
#pragma once

#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>

namespace hptrace {

using Blob = std::span<const std::byte>;

// Entries need not be aligned in what userspace was given: copied, never cast. The caller has checked the bounds.
template <class T>
T read_at(Blob blob, std::size_t offset) {
    T value{};
    std::memcpy(&value, blob.data() + offset, sizeof(T));
    return value;
}

template <std::size_t size>
std::string_view bounded(const char (&text)[size]) {
    return {text, strnlen(text, size)};
}

// Where the rule with this verdict goes on (an offset, not checked); nothing: it does not jump. What "jumps" to the
// next entry is a rule without a target.
inline std::optional<std::uint32_t> jump_target(int verdict, std::uint32_t next_entry) {
    const auto to = static_cast<std::uint32_t>(verdict);
    return verdict < 0 || to == next_entry ? std::nullopt : std::optional(to);
}

}  // namespace hptrace
