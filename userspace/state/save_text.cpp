// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/save_text.hpp"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>

namespace hptrace {
namespace {

struct NamedProtocol {
    std::string_view name;
    std::uint8_t number;
};

// As /etc/protocols and iptables' own table name them; a protocol without ports is in no HostPort's way.
constexpr std::array protocols{
    NamedProtocol{"icmp", IPPROTO_ICMP},
    NamedProtocol{"ipv6-icmp", IPPROTO_ICMPV6},
    NamedProtocol{"igmp", IPPROTO_IGMP},
    NamedProtocol{"icmpv6", IPPROTO_ICMPV6},
    NamedProtocol{"ipencap", IPPROTO_IPIP},
    NamedProtocol{"ipip", IPPROTO_IPIP},
    NamedProtocol{"ipv6", IPPROTO_IPV6},
    NamedProtocol{"gre", IPPROTO_GRE},
    NamedProtocol{"esp", IPPROTO_ESP},
    NamedProtocol{"ah", IPPROTO_AH},
    NamedProtocol{"ospf", 89},
    NamedProtocol{"vrrp", 112},
    NamedProtocol{"dccp", IPPROTO_DCCP},
    NamedProtocol{"udplite", IPPROTO_UDPLITE},
    NamedProtocol{"ipv6-mh", IPPROTO_MH},
    NamedProtocol{"mobility-header", IPPROTO_MH},
};

// The word in quotes at the beginning of `rest`, which is taken away; nothing: no closing quote.
std::optional<std::string> take_quoted(std::string_view& rest) {
    std::string text;
    for (std::size_t i = 1; i < rest.size(); ++i) {
        if (rest[i] == '"') {
            rest.remove_prefix(i + 1);
            return text;
        }
        if (rest[i] == '\\' && i + 1 < rest.size()) {
            ++i;
        }
        text += rest[i];
    }
    return std::nullopt;
}

}  // namespace

Result<std::vector<Word>> split_words(std::string_view line) {
    std::vector<Word> words;
    for (;;) {
        const auto begin = line.find_first_not_of(" \t\r");
        if (begin == std::string_view::npos) {
            return words;
        }
        line.remove_prefix(begin);
        if (line.front() == '"') {
            auto text = take_quoted(line);
            if (!text) {
                return failure("a quote is not closed");
            }
            words.push_back({.text = std::move(*text), .quoted = true});
            continue;
        }
        const auto end = std::min(line.find_first_of(" \t\r"), line.size());
        words.push_back({.text = std::string(line.substr(0, end))});
        line.remove_prefix(end);
    }
}

Result<void> for_each_line(std::string_view text, const std::function<Result<void>(std::string_view)>& handle) {
    std::size_t number = 0;
    for (const std::string_view line : split(text, '\n')) {
        ++number;
        if (line.empty() || line.front() == '#') {
            continue;
        }
        if (line.size() > longest_line) {
            return failure(fmt::format("line {}: {} bytes long: no tool prints that", number, line.size()));
        }
        if (const auto done = handle(line); !done) {
            return failure(fmt::format("line {}: {}", number, describe(done.error())));
        }
    }
    return {};
}

std::optional<std::uint8_t> protocol_number(std::string_view name) {
    if (const auto protocol = parse_protocol(name)) {
        return static_cast<std::uint8_t>(*protocol);
    }
    const auto* const known = std::ranges::find(protocols, name, &NamedProtocol::name);
    return known == protocols.end() ? to_number<std::uint8_t>(name) : known->number;
}

std::optional<PortRange> parse_port_range(std::string_view text, char separator) {
    const auto middle = text.find(separator);
    const auto first = to_number<std::uint16_t>(text.substr(0, middle));
    const auto last = middle == std::string_view::npos ? first : to_number<std::uint16_t>(text.substr(middle + 1));
    if (!first || !last || *first > *last) {
        return std::nullopt;
    }
    return PortRange{.first = *first, .last = *last};
}

std::vector<std::string_view> split(std::string_view text, char separator) {
    std::vector<std::string_view> parts;
    for (;;) {
        const auto end = text.find(separator);
        parts.push_back(text.substr(0, end));
        if (end == std::string_view::npos) {
            return parts;
        }
        text.remove_prefix(end + 1);
    }
}

}  // namespace hptrace
