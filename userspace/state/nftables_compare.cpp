// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/nftables_compare.hpp"

#include <fmt/format.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>

#include <algorithm>
#include <utility>

namespace hptrace {
namespace {

using Data = std::span<const std::uint8_t>;

// Fields of the network header by family: struct iphdr, struct ipv6hdr.
struct Header {
    std::uint32_t source;
    std::uint32_t destination;
    std::uint32_t protocol;
};
constexpr Header header_of(Family family) {
    return family == Family::ipv4 ? Header{12, 16, 9} : Header{8, 24, 6};
}

std::uint16_t port_in(Data data) {
    return static_cast<std::uint16_t>(data[0] << 8U | data[1]);
}

// Adds a port condition; `from and up` then `up to` (nft's a-b) become one range.
void add_ports(std::vector<PortMatch>& ports, PortRange range, bool inverted) {
    if (!inverted && !ports.empty() && !ports.back().inverted && ports.back().any_of.size() == 1) {
        PortRange& before = ports.back().any_of.front();
        const PortRange both{std::max(before.first, range.first), std::min(before.last, range.last)};
        if (both.first <= both.last) {
            before = both;
            return;
        }
    }
    ports.push_back({{range}, inverted});
}

// True for an operation that a port range can express.
bool compare_port(std::vector<PortMatch>& ports, nft_cmp_ops operation, std::uint16_t port) {
    constexpr std::uint16_t highest = 65535;
    switch (operation) {
        case NFT_CMP_EQ:
        case NFT_CMP_NEQ:
            add_ports(ports, {port, port}, operation == NFT_CMP_NEQ);
            return true;
        case NFT_CMP_GTE:
            add_ports(ports, {port, highest}, false);
            return true;
        case NFT_CMP_LTE:
            add_ports(ports, {0, port}, false);
            return true;
        case NFT_CMP_GT:
            add_ports(ports, {0, port}, true);
            return true;
        case NFT_CMP_LT:
            add_ports(ports, {port, highest}, true);
            return true;
        default:
            return false;
    }
}

void add_protocol(std::uint8_t protocol, bool inverted, Rule& rule) {
    const Match<std::uint8_t> match{protocol, inverted};
    if (rule.l4proto && *rule.l4proto != match) {
        rule.unread.emplace_back("several protocols");
        return;
    }
    rule.l4proto = match;
}

void compare_address(const Operand& operand, bool inverted, Data data, Family family, bool is_source_address,
                     Rule& rule) {
    Address address{.family = family, .bytes = {}};
    if (operand.length > address.size() || data.size() < operand.length) {
        rule.unread.emplace_back("address comparison");
        return;
    }
    std::copy_n(data.begin(), operand.length, address.bytes.begin());
    auto length = std::optional(static_cast<std::uint8_t>(operand.length * 8));
    if (!operand.mask.empty()) {
        length = mask_length(Data(operand.mask).first(std::min<std::size_t>(operand.mask.size(), operand.length)));
    }
    if (!length) {
        rule.unread.emplace_back("address mask with holes");
        return;
    }
    (is_source_address ? rule.sources : rule.destinations).push_back({Prefix{address, *length}, inverted});
}

void compare_interface(std::optional<Match<std::string>>& interface, bool inverted, Data data) {
    // Without its final NUL only the beginning of a name is compared: "eth+", nft's "eth*".
    const auto end = std::ranges::find(data, std::uint8_t{0});
    std::string name(data.begin(), end);
    if (end == data.end() && data.size() < 16) {
        name += '+';
    }
    interface = {std::move(name), inverted};
}

void compare_meta(const Operand& operand, nft_cmp_ops operation, Data data, Rule& rule) {
    const bool inverted = operation == NFT_CMP_NEQ;
    const bool equality = (inverted || operation == NFT_CMP_EQ) && !data.empty();
    if (operand.key == NFT_META_L4PROTO) {
        if (equality && operand.mask.empty()) {
            add_protocol(data.front(), inverted, rule);
        } else {
            rule.unread.emplace_back("meta l4proto");
        }
    } else if (operand.key == NFT_META_NFPROTO) {
        const auto family = equality && !inverted ? family_from_af(data.front()) : std::nullopt;
        if (!family) {
            rule.unread.emplace_back("meta nfproto");
        }
        rule.family = family;
    } else if (operand.key == NFT_META_IIFNAME && equality) {
        compare_interface(rule.in_interface, inverted, data);
    } else if (operand.key == NFT_META_OIFNAME && equality) {
        compare_interface(rule.out_interface, inverted, data);
    } else {
        rule.conditions.push_back(operand.key == NFT_META_MARK ? "meta mark" : fmt::format("meta {}", operand.key));
    }
}

void compare_network(const Operand& operand, nft_cmp_ops operation, Data data, std::optional<Family> family,
                     Rule& rule) {
    const bool inverted = operation == NFT_CMP_NEQ;
    if (!family || (!inverted && operation != NFT_CMP_EQ)) {
        rule.unread.emplace_back("network header comparison");
        return;
    }
    const Header header = header_of(*family);
    if (operand.offset == header.source || operand.offset == header.destination) {
        compare_address(operand, inverted, data, *family, operand.offset == header.source, rule);
    } else if (operand.offset == header.protocol && operand.length == 1 && !data.empty() && operand.mask.empty()) {
        add_protocol(data.front(), inverted, rule);
    } else if (operand.offset + operand.length <= header.source) {
        rule.conditions.emplace_back("network header");
    } else {
        rule.unread.emplace_back("network header comparison");
    }
}

void compare_transport(const Operand& operand, nft_cmp_ops operation, Data data, Rule& rule) {
    if (operand.offset >= 4) {  // behind the ports
        rule.conditions.emplace_back("transport header");
        return;
    }
    bool known = false;
    if (operand.mask.empty() && operand.length == 2 && data.size() >= 2) {
        if (operand.offset == 0) {
            known = compare_port(rule.source_ports, operation, port_in(data));
        } else if (operand.offset == 2) {
            known = compare_port(rule.destination_ports, operation, port_in(data));
        }
    } else if (operand.mask.empty() && operand.offset == 0 && operand.length == 4 && data.size() >= 4 &&
               operation == NFT_CMP_EQ) {  // both ports at once: iptables-nft since 1.8.8
        known = compare_port(rule.source_ports, operation, port_in(data)) &&
                compare_port(rule.destination_ports, operation, port_in(data.subspan(2)));
    }
    if (!known) {
        rule.unread.emplace_back("port comparison");
    }
}

void compare_fib(const Operand& operand, nft_cmp_ops operation, Data data, Rule& rule) {
    const bool equality = operation == NFT_CMP_EQ || operation == NFT_CMP_NEQ;
    const bool daddr = (operand.key & NFTA_FIB_F_DADDR) != 0;
    // The kernel writes the type as a number of four bytes in host order (nft_fib_store_result).
    std::uint32_t type = 0;
    if (data.size() >= sizeof(type)) {
        std::copy_n(data.begin(), sizeof(type), reinterpret_cast<std::uint8_t*>(&type));
    }
    if (equality && type == RTN_LOCAL) {
        (daddr ? rule.destination_local : rule.source_local) = operation == NFT_CMP_EQ;
    } else {
        rule.conditions.push_back(fmt::format("fib {} type {}", daddr ? "daddr" : "saddr", type));
    }
    if ((operand.key & (NFTA_FIB_F_IIF | NFTA_FIB_F_OIF | NFTA_FIB_F_MARK)) != 0) {
        rule.conditions.emplace_back("fib of an interface or mark");
    }
}

}  // namespace

std::optional<std::size_t> Registers::slot(std::uint32_t number, std::size_t behind) {
    constexpr std::size_t slot_size = 4;
    std::size_t found = behind / slot_size;
    if (number >= NFT_REG_1 && number <= NFT_REG_4) {
        found += (number - NFT_REG_1) * std::size_t{4};
    } else if (number >= NFT_REG32_00 && number <= NFT_REG32_15) {
        found += number - NFT_REG32_00;
    } else {
        return std::nullopt;
    }
    return found < slot_count ? std::optional(found) : std::nullopt;
}

void Registers::store(std::uint32_t number, Operand operand, std::size_t behind) {
    if (const auto first = slot(number, behind)) {
        slots_.at(*first) = std::move(operand);
    }
}

const Operand& Registers::at(std::uint32_t number, std::size_t behind) const {
    const auto first = slot(number, behind);
    return first ? slots_.at(*first) : nothing_;
}

void compare(const Operand& operand, nft_cmp_ops operation, Data data, std::optional<Family> family, Rule& rule) {
    switch (operand.kind) {
        case Operand::Kind::meta:
            compare_meta(operand, operation, data, rule);
            return;
        case Operand::Kind::payload:
            if (operand.key == NFT_PAYLOAD_NETWORK_HEADER) {
                compare_network(operand, operation, data, family, rule);
            } else if (operand.key == NFT_PAYLOAD_TRANSPORT_HEADER) {
                compare_transport(operand, operation, data, rule);
            } else {
                rule.conditions.emplace_back("link layer header");
            }
            return;
        case Operand::Kind::fib_type:
            compare_fib(operand, operation, data, rule);
            return;
        case Operand::Kind::opaque:
            rule.conditions.push_back(operand.name);
            return;
        case Operand::Kind::constant:
        case Operand::Kind::map_address:
        case Operand::Kind::map_port:
        case Operand::Kind::nothing:
            rule.unread.emplace_back("cmp");
    }
}

void compare_range(const Operand& operand, bool inverted, Data first, Data last, Rule& rule) {
    const bool ports = operand.kind == Operand::Kind::payload && operand.key == NFT_PAYLOAD_TRANSPORT_HEADER;
    if (ports && operand.length == 2 && (operand.offset == 0 || operand.offset == 2) && operand.mask.empty() &&
        first.size() >= 2 && last.size() >= 2 && port_in(first) <= port_in(last)) {
        add_ports(operand.offset == 0 ? rule.source_ports : rule.destination_ports, {port_in(first), port_in(last)},
                  inverted);
    } else if (operand.kind == Operand::Kind::payload) {
        rule.unread.emplace_back("range");
    } else {
        rule.conditions.emplace_back(operand.name + " range");
    }
}

bool is_address(const Operand& operand, std::optional<Family> family) {
    if (operand.kind != Operand::Kind::payload || operand.key != NFT_PAYLOAD_NETWORK_HEADER || !family) {
        return false;
    }
    const Header header = header_of(*family);
    return operand.mask.empty() && operand.length == Address{.family = *family, .bytes = {}}.size() &&
           (operand.offset == header.source || operand.offset == header.destination);
}

bool is_source(const Operand& operand, std::optional<Family> family) {
    if (operand.kind != Operand::Kind::payload) {
        return false;
    }
    return operand.key == NFT_PAYLOAD_NETWORK_HEADER
               ? operand.offset == header_of(family.value_or(Family::ipv4)).source
               : operand.key == NFT_PAYLOAD_TRANSPORT_HEADER && operand.offset == 0;
}

}  // namespace hptrace
