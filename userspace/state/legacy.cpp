// SPDX-License-Identifier: GPL-2.0-or-later
// Checks a table's blob from its first to its last byte, once, so that whoever decodes rules of it later need not.
#include "state/legacy.hpp"

#include <fmt/format.h>
#include <linux/netfilter.h>

#include <algorithm>
#include <bit>
#include <string_view>
#include <utility>

#include "state/legacy_entry.hpp"
#include "state/legacy_rules.hpp"

namespace hptrace {
namespace {

constexpr std::array<std::string_view, NF_INET_NUMHOOKS> hook_names{"PREROUTING", "INPUT", "FORWARD", "OUTPUT",
                                                                    "POSTROUTING"};
static_assert(sizeof(ipt_getinfo) == sizeof(ip6t_getinfo));
static_assert(std::tuple_size_v<decltype(LegacyInfo::hook_entry)> == NF_INET_NUMHOOKS);

// Why a blob is refused; nothing: it is not.
using Fault = std::optional<std::string_view>;

bool is_final(int verdict) {
    return verdict == -NF_DROP - 1 || verdict == -NF_ACCEPT - 1 || verdict == -NF_QUEUE - 1 || verdict == XT_RETURN;
}

template <class Entry>
class BlobCheck {
public:
    BlobCheck(Blob blob, const LegacyInfo& info, Family family) : blob_(blob), info_(info), family_(family) {}

    // Finds the chains; their rules are in take_index() then.
    Result<std::vector<Chain>> find_chains() {
        if (blob_.size() != info_.size) {
            return malformed("the kernel returned another size than it announced");
        }
        std::uint32_t entries = 0;
        for (; offset_ < blob_.size(); ++entries) {
            if (const auto fault = check_entry()) {
                return malformed(*fault);
            }
        }
        if (entries != info_.num_entries || !ended_) {
            return malformed("the number of entries is not the one announced");
        }
        if (const auto fault = end_chain()) {
            return malformed(*fault);
        }
        if (std::ranges::count_if(chain_of_hook_, [](const auto& chain) { return chain.has_value(); }) !=
            std::popcount(info_.valid_hooks)) {
            return malformed("a hook enters where no rule begins");
        }
        if (const auto fault = resolve_jumps()) {
            return malformed(*fault);
        }
        return named_chains();
    }

    LegacyRules::Index take_index() { return std::move(index_); }

private:
    [[nodiscard]] std::unexpected<Error> malformed(std::string_view why) const {
        return failure(fmt::format("table {} of {} is malformed at offset {}: {}", info_.name,
                                   family_ == Family::ipv4 ? "iptables-legacy" : "ip6tables-legacy", offset_, why));
    }

    // Leads to the next entry.
    Fault check_entry() {
        const std::size_t room = blob_.size() - offset_;
        if (ended_) {
            return "entries follow the end of the table";
        }
        if (room < sizeof(Entry)) {
            return "an entry is cut off";
        }
        const auto target_offset = read_at<std::uint16_t>(blob_, offset_ + offsetof(Entry, target_offset));
        const auto next_offset = read_at<std::uint16_t>(blob_, offset_ + offsetof(Entry, next_offset));
        if (next_offset > room || target_offset < sizeof(Entry) ||
            target_offset + sizeof(xt_entry_target) > next_offset) {
            return "an offset points outside its entry";
        }
        const Blob bytes = blob_.subspan(offset_, next_offset);
        if (const auto fault = check_matches(bytes.first(target_offset).subspan(sizeof(Entry)))) {
            return fault;
        }
        if (const auto fault = check_target(bytes.subspan(target_offset), offset_ + next_offset)) {
            return fault;
        }
        offset_ += next_offset;
        return std::nullopt;
    }

    static Fault check_matches(Blob matches) {
        while (!matches.empty()) {
            if (matches.size() < sizeof(xt_entry_match)) {
                return "a match is cut off";
            }
            const std::size_t size = read_at<decltype(xt_entry_match::u.user.match_size)>(
                matches, offsetof(xt_entry_match, u.user.match_size));
            if (size < sizeof(xt_entry_match) || size > matches.size()) {
                return "a match is larger than its rule";
            }
            matches = matches.subspan(size);
        }
        return std::nullopt;
    }

    Fault check_target(Blob bytes, std::uint32_t next_entry) {
        const auto target = read_at<xt_entry_target>(bytes, 0);
        const std::size_t size = target.u.user.target_size;
        if (size < sizeof(xt_entry_target) || size > bytes.size()) {
            return "a target is larger than its rule";
        }
        const bool standard = target.u.user.name[0] == '\0';  // XT_STANDARD_TARGET
        if (!standard && bounded(target.u.user.name) == XT_ERROR_TARGET) {
            return check_error_target(bytes.first(size), next_entry);
        }
        for (std::size_t hook = 0; hook < hook_names.size(); ++hook) {
            if ((info_.valid_hooks & (1U << hook)) != 0 && info_.hook_entry.at(hook) == offset_) {
                if (const auto fault = begin_chain(hook_names.at(hook), offset_)) {
                    return fault;
                }
                chain_of_hook_.at(hook) = chains_.size() - 1;
            }
        }
        if (chains_.empty()) {
            return "a rule stands before every chain";
        }
        last_ = offset_;
        jumps_before_last_ = index_.jumps.size();
        ++index_.rules;
        return standard ? check_verdict(bytes.first(size), next_entry) : std::nullopt;
    }

    // It begins a chain, and has its name; the last entry of a blob is one too, and begins none.
    Fault check_error_target(Blob bytes, std::uint32_t next_entry) {
        if (bytes.size() < sizeof(xt_error_target)) {
            return "a chain name is cut off";
        }
        if (next_entry == blob_.size()) {
            ended_ = true;
            return std::nullopt;
        }
        const auto* const name =
            reinterpret_cast<const char*>(bytes.data() + offsetof(xt_error_target, errorname));  // NOLINT: bytes
        return begin_chain({name, strnlen(name, sizeof(xt_error_target::errorname))}, next_entry);
    }

    Fault check_verdict(Blob bytes, std::uint32_t next_entry) {
        if (bytes.size() < sizeof(xt_standard_target)) {
            return "a verdict is cut off";
        }
        const int verdict = read_at<int>(bytes, offsetof(xt_standard_target, verdict));
        if (verdict < 0) {
            return is_final(verdict) ? std::nullopt : Fault("a verdict is none");
        }
        if (const auto to = jump_target(verdict, next_entry)) {
            index_.jumps.push_back(*to);
        }
        return std::nullopt;
    }

    Fault begin_chain(std::string_view name, std::uint32_t begin) {
        if (const auto fault = end_chain()) {
            return fault;
        }
        chains_.push_back({.begin = begin,
                           .end = begin,
                           .first_jump = static_cast<std::uint32_t>(index_.jumps.size()),
                           .end_of_jumps = 0});
        index_.names.push_back(name);
        return std::nullopt;
    }

    // A chain's last rule is its policy.
    Fault end_chain() {
        if (chains_.empty()) {
            return std::nullopt;
        }
        if (!last_) {
            return "a chain without an end";
        }
        chains_.back().end = *last_;
        chains_.back().end_of_jumps = static_cast<std::uint32_t>(jumps_before_last_);
        last_.reset();
        --index_.rules;
        return std::nullopt;
    }

    // Offsets become chains.
    Fault resolve_jumps() {
        for (std::uint32_t& jump : index_.jumps) {
            const auto found = std::ranges::lower_bound(chains_, jump, {}, &LegacyChain::begin);
            const auto chain = static_cast<std::size_t>(found - chains_.begin());
            if (found == chains_.end() || found->begin != jump || std::ranges::count(chain_of_hook_, chain) > 0) {
                offset_ = jump;
                return "a jump leads to no chain";
            }
            jump = static_cast<std::uint32_t>(chain);
        }
        return std::nullopt;
    }

    // As many as there are: tens of thousands, and large ones.
    [[nodiscard]] std::vector<Chain> named_chains() const {
        std::vector<Chain> chains(chains_.size());
        for (std::size_t i = 0; i < chains.size(); ++i) {
            chains[i].name = index_.names[i];
            chains[i].legacy = chains_[i];
        }
        for (std::size_t hook = 0; hook < hook_names.size(); ++hook) {
            if (const auto chain = chain_of_hook_.at(hook)) {
                chains[*chain].hook = hook_names.at(hook);
            }
        }
        return chains;
    }

    Blob blob_;
    const LegacyInfo& info_;
    Family family_;
    std::vector<LegacyChain> chains_;  // their names: index_.names
    std::array<std::optional<std::size_t>, NF_INET_NUMHOOKS> chain_of_hook_{};
    LegacyRules::Index index_;
    std::uint32_t offset_ = 0;
    std::optional<std::uint32_t> last_;  // rule of the last chain
    std::size_t jumps_before_last_ = 0;
    bool ended_ = false;
};

template <class Entry>
Result<RuleTable> parse(Blob blob, const LegacyInfo& info, Family family, SetNameOf set_name,
                        std::shared_ptr<const void> owner) {
    BlobCheck<Entry> check(blob, info, family);
    auto chains = check.find_chains();
    if (!chains) {
        return std::unexpected(std::move(chains.error()));
    }
    return RuleTable{.backend = Backend::iptables_legacy,
                     .families = {family},
                     .name = info.name,
                     .chains = *std::move(chains),
                     .sets = {},
                     .legacy = std::make_shared<const LegacyRules>(blob, std::move(owner), family, std::move(set_name),
                                                                   check.take_index())};
}

}  // namespace

Result<RuleTable> parse_legacy_blob(std::span<const std::byte> blob, const LegacyInfo& info, Family family,
                                    SetNameOf set_name, std::shared_ptr<const void> owner) {
    return family == Family::ipv4 ? parse<ipt_entry>(blob, info, family, std::move(set_name), std::move(owner))
                                  : parse<ip6t_entry>(blob, info, family, std::move(set_name), std::move(owner));
}

}  // namespace hptrace
