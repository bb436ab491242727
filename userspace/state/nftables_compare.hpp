// SPDX-License-Identifier: GPL-2.0-or-later
// nf_tables registers, and what comparing their contents demands of a packet.
#pragma once

#include <linux/netfilter/nf_tables.h>

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "state/ruleset.hpp"

namespace hptrace {

// What an expression put into a register.
struct Operand {
    enum class Kind : std::uint8_t { nothing, meta, payload, fib_type, constant, map_address, map_port, opaque };
    Kind kind = Kind::nothing;
    std::string name;                  // of the expression that loaded it
    std::uint32_t key = 0;             // meta: nft_meta_keys; payload: nft_payload_bases; fib_type: nft_fib_flags
    std::uint32_t offset = 0;          // payload, bytes
    std::uint32_t length = 0;          // payload and constant, bytes
    std::vector<std::uint8_t> data{};  // constant
    std::vector<std::uint8_t> mask{};  // ANDed to it by bitwise; empty: none
};

// Sixteen slots of four bytes: NFT_REG32_00 to _15 are one each, NFT_REG_1 to _4 begin every fourth (nf_tables.h).
class Registers {
public:
    // `behind`: bytes after the beginning of the register, for the parts of a concatenation.
    // Numbers that are no data register are ignored.
    void store(std::uint32_t number, Operand operand, std::size_t behind = 0);
    // Kind::nothing if nothing was loaded that begins there.
    [[nodiscard]] const Operand& at(std::uint32_t number, std::size_t behind = 0) const;

private:
    static std::optional<std::size_t> slot(std::uint32_t number, std::size_t behind);

    static constexpr std::size_t slot_count = 16;

    std::array<Operand, slot_count> slots_;
    Operand nothing_;
};

// Adds "operand <operation> data" to the rule: a decoded condition, one of Rule::conditions if it concerns something
// else, Rule::unread if it concerns addresses or ports in a way this program does not know.
// `family`: of the packets that get here, if known (offsets in the network header depend on it).
void compare(const Operand& operand, nft_cmp_ops operation, std::span<const std::uint8_t> data,
             std::optional<Family> family, Rule& rule);

// The same for "first <= operand <= last", or its opposite.
void compare_range(const Operand& operand, bool inverted, std::span<const std::uint8_t> first,
                   std::span<const std::uint8_t> last, Rule& rule);

// A whole address of the network header of `family`?
bool is_address(const Operand& operand, std::optional<Family> family);

// A source address or source port?
bool is_source(const Operand& operand, std::optional<Family> family);

}  // namespace hptrace
