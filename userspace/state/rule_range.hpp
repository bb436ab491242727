// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>

#include "state/legacy_rules.hpp"
#include "state/ruleset.hpp"

namespace hptrace {

// The rules of a chain, one after the other, once. A rule is there until the next one is asked for: that of a table of
// iptables-legacy is decoded then, in the place of the one before. The table must outlive it.
class RuleRange {
public:
    RuleRange(const RuleTable& table, const Chain& chain) : legacy_(table.legacy.get()) {
        if (legacy_ == nullptr) {
            at_ = chain.rules.data();
            end_ = at_ + chain.rules.size();
        } else {
            next_ = {.offset = chain.legacy.begin, .jump = chain.legacy.first_jump};
            legacy_end_ = chain.legacy.end;
            decode();
        }
    }
    RuleRange(const RuleRange&) = delete;
    RuleRange& operator=(const RuleRange&) = delete;
    RuleRange(RuleRange&&) = delete;
    RuleRange& operator=(RuleRange&&) = delete;
    ~RuleRange() = default;

    class Iterator {
    public:
        using value_type = Rule;
        using difference_type = std::ptrdiff_t;

        explicit Iterator(RuleRange& range) : range_(&range) {}
        const Rule& operator*() const { return *range_->at_; }
        Iterator& operator++() {
            range_->advance();
            return *this;
        }
        void operator++(int) { ++*this; }
        bool operator==(std::default_sentinel_t /*end*/) const { return range_->at_ == range_->end_; }

    private:
        RuleRange* range_;
    };
    Iterator begin() { return Iterator(*this); }
    static std::default_sentinel_t end() { return {}; }

    // What it takes to look at the current rule, at least one: the kernel lets it be as long as 64 KiB.
    [[nodiscard]] std::size_t effort() const {
        constexpr std::uint32_t bytes_a_unit = 1024;  // twice as long as any rule of kube-proxy or portmap
        return 1 + (legacy_ == nullptr ? 0 : (next_.offset - rule_->legacy->offset) / bytes_a_unit);
    }

private:
    void advance() {
        if (legacy_ == nullptr) {
            ++at_;
        } else {
            decode();
        }
    }

    void decode() {
        if (next_.offset == legacy_end_) {
            at_ = end_;
            return;
        }
        legacy_->decode(next_, rule_.emplace());
        at_ = &*rule_;
    }

    const LegacyRules* legacy_;
    const Rule* at_ = nullptr;
    const Rule* end_ = nullptr;
    LegacyRules::Cursor next_{};
    std::uint32_t legacy_end_ = 0;
    std::optional<Rule> rule_;
};

}  // namespace hptrace
