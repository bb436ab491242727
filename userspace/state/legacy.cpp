// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/legacy.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "state/xt_decode.hpp"

namespace hptrace {
namespace {

constexpr std::array<std::string_view, NF_INET_NUMHOOKS> hook_names{"PREROUTING", "INPUT", "FORWARD", "OUTPUT",
                                                                    "POSTROUTING"};
static_assert(sizeof(ipt_getinfo) == sizeof(ip6t_getinfo));
static_assert(std::tuple_size_v<decltype(LegacyInfo::hook_entry)> == NF_INET_NUMHOOKS);

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

// The part of an entry that differs between the families, and its sizes.
struct Entry {
    std::size_t size = 0;  // of the header
    std::uint16_t target_offset = 0;
    std::uint16_t next_offset = 0;
    bool go_to = false;
};

template <class RawAddress>
void add_prefix(std::vector<Match<Prefix>>& prefixes, const RawAddress& address, const RawAddress& mask, Family family,
                bool inverted, Rule& rule) {
    std::array<std::uint8_t, sizeof(RawAddress)> bytes{};
    std::array<std::uint8_t, sizeof(RawAddress)> mask_bytes{};
    std::memcpy(bytes.data(), &address, sizeof(address));
    std::memcpy(mask_bytes.data(), &mask, sizeof(mask));
    const auto length = mask_length(mask_bytes);
    if (!length) {
        rule.unread.emplace_back("address mask with holes");
    } else if (*length != 0 || inverted) {
        prefixes.push_back({Prefix{make_address(family, bytes), *length}, inverted});
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

Entry decode_header(Blob blob, std::size_t offset, Family family, Rule& rule) {
    if (family == Family::ipv4) {
        const auto entry = read_at<ipt_entry>(blob, offset);
        const auto& ip = entry.ip;
        add_prefix(rule.sources, ip.src, ip.smsk, family, (ip.invflags & IPT_INV_SRCIP) != 0, rule);
        add_prefix(rule.destinations, ip.dst, ip.dmsk, family, (ip.invflags & IPT_INV_DSTIP) != 0, rule);
        rule.in_interface = interface(ip.iniface, ip.iniface_mask, (ip.invflags & IPT_INV_VIA_IN) != 0);
        rule.out_interface = interface(ip.outiface, ip.outiface_mask, (ip.invflags & IPT_INV_VIA_OUT) != 0);
        if (ip.proto != 0) {
            rule.l4proto = {static_cast<std::uint8_t>(ip.proto), (ip.invflags & IPT_INV_PROTO) != 0};
        }
        if ((ip.flags & IPT_F_FRAG) != 0) {
            rule.conditions.emplace_back((ip.invflags & IPT_INV_FRAG) != 0 ? "! -f" : "-f");
        }
        return {sizeof(ipt_entry), entry.target_offset, entry.next_offset, (ip.flags & IPT_F_GOTO) != 0};
    }
    const auto entry = read_at<ip6t_entry>(blob, offset);
    const auto& ip = entry.ipv6;
    add_prefix(rule.sources, ip.src, ip.smsk, family, (ip.invflags & IP6T_INV_SRCIP) != 0, rule);
    add_prefix(rule.destinations, ip.dst, ip.dmsk, family, (ip.invflags & IP6T_INV_DSTIP) != 0, rule);
    rule.in_interface = interface(ip.iniface, ip.iniface_mask, (ip.invflags & IP6T_INV_VIA_IN) != 0);
    rule.out_interface = interface(ip.outiface, ip.outiface_mask, (ip.invflags & IP6T_INV_VIA_OUT) != 0);
    if ((ip.flags & IP6T_F_PROTO) != 0) {
        rule.l4proto = {static_cast<std::uint8_t>(ip.proto), (ip.invflags & IP6T_INV_PROTO) != 0};
    }
    if ((ip.flags & IP6T_F_TOS) != 0) {
        rule.conditions.emplace_back("-m tos");
    }
    return {sizeof(ip6t_entry), entry.target_offset, entry.next_offset, (ip.flags & IP6T_F_GOTO) != 0};
}

class BlobParser {
public:
    BlobParser(Blob blob, const LegacyInfo& info, Family family, const SetNameOf& set_name, const BlobParsed& parsed)
        : blob_(blob), info_(info), family_(family), context_{family, set_name}, parsed_(parsed) {}

    Result<RuleTable> parse() {
        if (blob_.size() != info_.size) {
            return malformed(0, "the kernel returned another size than it announced");
        }
        table_.backend = Backend::iptables_legacy;
        table_.families = {family_};
        table_.name = info_.name;
        std::size_t offset = 0;
        std::uint32_t entries = 0;
        for (; offset < blob_.size(); ++entries) {
            const auto next = parse_entry(static_cast<std::uint32_t>(offset));
            if (!next) {
                return std::unexpected(next.error());
            }
            offset = *next;
            if (parsed_) {
                parsed_(offset);
            }
        }
        if (entries != info_.num_entries || !ended_) {
            return malformed(offset, "the number of entries is not the one announced");
        }
        return finish();
    }

private:
    struct Jump {
        std::size_t chain;
        std::size_t rule;
        std::uint32_t to;
    };

    [[nodiscard]] std::unexpected<Error> malformed(std::size_t offset, std::string_view why) const {
        return failure(fmt::format("table {} of {} is malformed at offset {}: {}", info_.name,
                                   family_ == Family::ipv4 ? "iptables-legacy" : "ip6tables-legacy", offset, why));
    }

    // The offset of the entry after this one.
    Result<std::size_t> parse_entry(std::uint32_t offset) {
        const std::size_t header = family_ == Family::ipv4 ? sizeof(ipt_entry) : sizeof(ip6t_entry);
        const std::size_t room = blob_.size() - offset;
        if (ended_) {
            return malformed(offset, "entries follow the end of the table");
        }
        if (room < header) {
            return malformed(offset, "an entry is cut off");
        }
        Rule rule;
        rule.offset = offset;
        const Entry entry = decode_header(blob_, offset, family_, rule);
        if (entry.next_offset > room || entry.target_offset < entry.size ||
            entry.target_offset + sizeof(xt_entry_target) > entry.next_offset) {
            return malformed(offset, "an offset points outside its entry");
        }
        const Blob bytes = blob_.subspan(offset, entry.next_offset);
        if (auto error = parse_matches(bytes.first(entry.target_offset).subspan(entry.size), offset, rule)) {
            return std::unexpected(std::move(*error));
        }
        if (auto error = parse_target(bytes.subspan(entry.target_offset), offset, entry, std::move(rule))) {
            return std::unexpected(std::move(*error));
        }
        return offset + entry.next_offset;
    }

    std::optional<Error> parse_matches(Blob matches, std::uint32_t offset, Rule& rule) {
        while (!matches.empty()) {
            if (matches.size() < sizeof(xt_entry_match)) {
                return malformed(offset, "a match is cut off").error();
            }
            const auto match = read_at<xt_entry_match>(matches, 0);
            const std::size_t size = match.u.user.match_size;
            if (size < sizeof(xt_entry_match) || size > matches.size()) {
                return malformed(offset, "a match is larger than its rule").error();
            }
            decode_xt_match(bounded(match.u.user.name), match.u.user.revision,
                            matches.first(size).subspan(sizeof(xt_entry_match)), context_, rule);
            matches = matches.subspan(size);
        }
        return std::nullopt;
    }

    std::optional<Error> parse_target(Blob bytes, std::uint32_t offset, const Entry& entry, Rule&& rule) {
        const auto target = read_at<xt_entry_target>(bytes, 0);
        const std::size_t size = target.u.user.target_size;
        if (size < sizeof(xt_entry_target) || size > bytes.size()) {
            return malformed(offset, "a target is larger than its rule").error();
        }
        bytes = bytes.first(size);
        const std::string_view name = bounded(target.u.user.name);
        if (name == XT_ERROR_TARGET) {
            if (size < sizeof(xt_error_target)) {
                return malformed(offset, "a chain name is cut off").error();
            }
            // The last entry of the blob is an ERROR target too, and begins no chain.
            if (offset + entry.next_offset == blob_.size()) {
                ended_ = true;
                return std::nullopt;
            }
            const auto error = read_at<xt_error_target>(bytes, 0);
            begin_chain(std::string(bounded(error.errorname)));
            chain_at_.emplace(offset + entry.next_offset, table_.chains.size() - 1);
            return std::nullopt;
        }
        for (std::size_t hook = 0; hook < hook_names.size(); ++hook) {
            if ((info_.valid_hooks & (1U << hook)) != 0 && info_.hook_entry.at(hook) == offset) {
                begin_chain(std::string(hook_names.at(hook)));
                table_.chains.back().hook = hook_names.at(hook);
                ++hooks_seen_;
            }
        }
        if (table_.chains.empty()) {
            return malformed(offset, "a rule stands before every chain").error();
        }
        if (name.empty()) {  // XT_STANDARD_TARGET
            if (size < sizeof(xt_standard_target)) {
                return malformed(offset, "a verdict is cut off").error();
            }
            const int verdict = read_at<xt_standard_target>(bytes, 0).verdict;
            if (!set_verdict(verdict, offset, entry, rule)) {
                return malformed(offset, "a verdict is none").error();
            }
        } else {
            decode_xt_target(name, target.u.user.revision, bytes.subspan(sizeof(xt_entry_target)), context_, rule);
        }
        rules_.push_back(std::move(rule));
        return std::nullopt;
    }

    bool set_verdict(int verdict, std::uint32_t offset, const Entry& entry, Rule& rule) {
        if (verdict >= 0) {
            const auto to = static_cast<std::uint32_t>(verdict);
            if (to != offset + entry.next_offset) {  // a jump to the next rule is a rule without target
                rule.target.kind = entry.go_to ? TargetKind::go_to : TargetKind::jump;
                jumps_.push_back({table_.chains.size() - 1, rules_.size(), to});
            }
            return true;
        }
        switch (verdict) {
            case -NF_DROP - 1:
                rule.target = {TargetKind::drop, "DROP", {}, {}};
                return true;
            case -NF_ACCEPT - 1:
                rule.target = {TargetKind::accept, "ACCEPT", {}, {}};
                return true;
            case -NF_QUEUE - 1:
                rule.target = {TargetKind::other, "QUEUE", {}, {}};
                return true;
            case XT_RETURN:
                rule.target = {TargetKind::return_, "RETURN", {}, {}};
                return true;
            default:
                return false;
        }
    }

    void begin_chain(std::string name) {
        end_chain();
        table_.chains.emplace_back();
        table_.chains.back().name = std::move(name);
    }

    // A chain gets room for exactly its rules: most are short, and there are tens of thousands of them.
    void end_chain() {
        if (!table_.chains.empty()) {
            table_.chains.back().rules.assign(std::move_iterator(rules_.begin()), std::move_iterator(rules_.end()));
        }
        rules_.clear();
    }

    // Resolves jumps and removes each chain's last rule, which is its policy and was not written by anyone.
    Result<RuleTable> finish() {
        end_chain();
        if (hooks_seen_ != std::popcount(info_.valid_hooks)) {
            return malformed(blob_.size(), "a hook enters where no rule begins");
        }
        for (const Jump& jump : jumps_) {
            const auto chain = chain_at_.find(jump.to);
            if (chain == chain_at_.end()) {
                return malformed(jump.to, "a jump leads to no chain");
            }
            table_.chains.at(jump.chain).rules.at(jump.rule).target.name = table_.chains.at(chain->second).name;
        }
        for (Chain& chain : table_.chains) {
            if (chain.rules.empty()) {
                return malformed(blob_.size(), "a chain without an end");
            }
            chain.rules.pop_back();
        }
        return std::move(table_);
    }

    Blob blob_;
    const LegacyInfo& info_;
    Family family_;
    XtContext context_;
    const BlobParsed& parsed_;
    RuleTable table_;
    std::vector<Rule> rules_;                                // of the last chain, until the next one begins
    std::unordered_map<std::size_t, std::size_t> chain_at_;  // offset of a chain's first rule
    std::vector<Jump> jumps_;
    int hooks_seen_ = 0;
    bool ended_ = false;
};

}  // namespace

Result<RuleTable> parse_legacy_blob(std::span<const std::byte> blob, const LegacyInfo& info, Family family,
                                    const SetNameOf& set_name, const BlobParsed& parsed) {
    return BlobParser(blob, info, family, set_name, parsed).parse();
}

}  // namespace hptrace
