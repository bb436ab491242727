// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/legacy_rules.hpp"

#include <linux/netfilter.h>

#include <algorithm>
#include <array>
#include <utility>

#include "state/legacy_entry.hpp"
#include "state/xt_decode.hpp"

namespace hptrace {
namespace {

template <class RawAddress>
void add_prefix(std::vector<Match<Prefix>>& prefixes, const RawAddress& address, const RawAddress& mask, Family family,
                bool inverted, Rule& rule) {
    constexpr RawAddress any{};
    if (!inverted && std::memcmp(&mask, &any, sizeof(mask)) == 0) {
        return;
    }
    std::array<std::uint8_t, sizeof(RawAddress)> bytes{};
    std::array<std::uint8_t, sizeof(RawAddress)> mask_bytes{};
    std::memcpy(bytes.data(), &address, sizeof(address));
    std::memcpy(mask_bytes.data(), &mask, sizeof(mask));
    if (const auto length = mask_length(mask_bytes)) {
        prefixes.push_back({Prefix{make_address(family, bytes), *length}, inverted});
    } else {
        rule.unread.emplace_back("address mask with holes");
    }
}

// The mask covers the name and its final NUL, or only the beginning of a name ("eth+").
std::optional<Match<std::string>> interface(const char (&name)[IFNAMSIZ], const unsigned char (&mask)[IFNAMSIZ],
                                            bool inverted) {
    const auto length = static_cast<std::size_t>(std::ranges::find(mask, 0) - mask);
    if (length == 0 && !inverted) {
        return std::nullopt;
    }
    std::string text(name, strnlen(name, std::min<std::size_t>(length, IFNAMSIZ)));
    if (text.size() == length) {
        text += '+';
    }
    return Match<std::string>{std::move(text), inverted};
}

// What an entry itself demands; true: its verdict is no jump but a goto.
bool decode_header(const ipt_entry& entry, Rule& rule) {
    const auto& ip = entry.ip;
    add_prefix(rule.sources, ip.src, ip.smsk, Family::ipv4, (ip.invflags & IPT_INV_SRCIP) != 0, rule);
    add_prefix(rule.destinations, ip.dst, ip.dmsk, Family::ipv4, (ip.invflags & IPT_INV_DSTIP) != 0, rule);
    rule.in_interface = interface(ip.iniface, ip.iniface_mask, (ip.invflags & IPT_INV_VIA_IN) != 0);
    rule.out_interface = interface(ip.outiface, ip.outiface_mask, (ip.invflags & IPT_INV_VIA_OUT) != 0);
    if (ip.proto != 0) {
        rule.l4proto = {static_cast<std::uint8_t>(ip.proto), (ip.invflags & IPT_INV_PROTO) != 0};
    }
    if ((ip.flags & IPT_F_FRAG) != 0) {
        rule.conditions.emplace_back((ip.invflags & IPT_INV_FRAG) != 0 ? "! -f" : "-f");
    }
    return (ip.flags & IPT_F_GOTO) != 0;
}

bool decode_header(const ip6t_entry& entry, Rule& rule) {
    const auto& ip = entry.ipv6;
    add_prefix(rule.sources, ip.src, ip.smsk, Family::ipv6, (ip.invflags & IP6T_INV_SRCIP) != 0, rule);
    add_prefix(rule.destinations, ip.dst, ip.dmsk, Family::ipv6, (ip.invflags & IP6T_INV_DSTIP) != 0, rule);
    rule.in_interface = interface(ip.iniface, ip.iniface_mask, (ip.invflags & IP6T_INV_VIA_IN) != 0);
    rule.out_interface = interface(ip.outiface, ip.outiface_mask, (ip.invflags & IP6T_INV_VIA_OUT) != 0);
    if ((ip.flags & IP6T_F_PROTO) != 0) {
        rule.l4proto = {static_cast<std::uint8_t>(ip.proto), (ip.invflags & IP6T_INV_PROTO) != 0};
    }
    if ((ip.flags & IP6T_F_TOS) != 0) {
        rule.conditions.emplace_back("-m tos");
    }
    return (ip.flags & IP6T_F_GOTO) != 0;
}

// The verdicts that end a chain, as NF_DROP and others stand in a blob.
Target final_target(int verdict) {
    switch (verdict) {
        case -NF_DROP - 1:
            return {TargetKind::drop, "DROP", {}, {}};
        case -NF_ACCEPT - 1:
            return {TargetKind::accept, "ACCEPT", {}, {}};
        case -NF_QUEUE - 1:
            return {TargetKind::other, "QUEUE", {}, {}};
        case XT_RETURN:
            return {TargetKind::return_, "RETURN", {}, {}};
        default:  // a jump to the next rule: none
            return {};
    }
}

}  // namespace

LegacyRules::LegacyRules(std::span<const std::byte> blob, std::shared_ptr<const void> owner, Family family,
                         SetNameOf set_name, Index index)
    : blob_(blob),
      owner_(std::move(owner)),
      family_(family),
      set_name_(std::move(set_name)),
      index_(std::move(index)) {}

void LegacyRules::decode(Cursor& cursor, Rule& rule) const {
    if (family_ == Family::ipv4) {
        decode_entry<ipt_entry>(cursor, rule);
    } else {
        decode_entry<ip6t_entry>(cursor, rule);
    }
}

template <class Entry>
void LegacyRules::decode_entry(Cursor& cursor, Rule& rule) const {
    const XtContext context{family_, set_name_};
    const auto entry = read_at<Entry>(blob_, cursor.offset);
    rule.legacy = LegacyPlace{.offset = cursor.offset, .chain = {}};
    const bool go_to = decode_header(entry, rule);
    const Blob bytes = blob_.subspan(cursor.offset, entry.next_offset);
    cursor.offset += entry.next_offset;
    for (Blob matches = bytes.first(entry.target_offset).subspan(sizeof(Entry)); !matches.empty();) {
        const auto match = read_at<xt_entry_match>(matches, 0);
        const std::size_t size = match.u.user.match_size;
        decode_xt_match(bounded(match.u.user.name), match.u.user.revision,
                        matches.first(size).subspan(sizeof(xt_entry_match)), context, rule);
        matches = matches.subspan(size);
    }
    const auto target = read_at<xt_entry_target>(bytes, entry.target_offset);
    const std::string_view name = bounded(target.u.user.name);
    if (!name.empty()) {
        decode_xt_target(name, target.u.user.revision,
                         bytes.subspan(entry.target_offset, target.u.user.target_size).subspan(sizeof(xt_entry_target)),
                         context, rule);
        return;
    }
    const int verdict = read_at<xt_standard_target>(bytes, entry.target_offset).verdict;
    if (jump_target(verdict, cursor.offset)) {
        const auto chain = index_.jumps[cursor.jump++];
        rule.legacy->chain = chain;
        rule.target.kind = go_to ? TargetKind::go_to : TargetKind::jump;
        rule.target.name = index_.names[chain];
    } else {
        rule.target = final_target(verdict);
    }
}

std::span<const std::uint32_t> LegacyRules::jumps_of(const LegacyChain& chain) const {
    return std::span(index_.jumps).subspan(chain.first_jump, chain.end_of_jumps - chain.first_jump);
}

std::optional<std::size_t> LegacyRules::find(std::string_view chain) const {
    const auto found = std::ranges::find(index_.names, chain);
    return found == index_.names.end() ? std::nullopt : std::optional<std::size_t>(found - index_.names.begin());
}

}  // namespace hptrace
