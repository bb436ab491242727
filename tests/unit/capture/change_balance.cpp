// SPDX-License-Identifier: GPL-2.0-or-later
#include "capture/change_balance.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>

using namespace hptrace;
using namespace std::chrono_literals;

namespace {

hptrace_changes counters(std::uint32_t begin, std::uint32_t end) {
    hptrace_changes out{};
    out.begin[HPTRACE_SOURCE_NFTABLES] = begin;
    out.end[HPTRACE_SOURCE_NFTABLES] = end;
    return out;
}

bool under_change(const hptrace_changes& changes) {
    return changes.begin[HPTRACE_SOURCE_NFTABLES] != changes.end[HPTRACE_SOURCE_NFTABLES];
}

// Looks at the same counters every 100 ms for `duration`.
hptrace_changes watch(ChangeBalance& balance, const hptrace_changes& raw, std::chrono::nanoseconds& now,
                      std::chrono::milliseconds duration) {
    auto last = balance.observe(raw, now);
    for (auto waited = 0ms; waited < duration; waited += 100ms) {
        now += 100ms;
        last = balance.observe(raw, now);
    }
    return last;
}

}  // namespace

TEST_CASE("a change under way shows as such and ends") {
    ChangeBalance balance;
    CHECK_FALSE(under_change(balance.observe(counters(0, 0), 1s)));
    CHECK(under_change(balance.observe(counters(1, 0), 2s)));
    CHECK_FALSE(under_change(balance.observe(counters(1, 1), 2500ms)));
}

TEST_CASE("an end that never comes does not mean a change for ever") {
    ChangeBalance balance;
    std::chrono::nanoseconds now = 0s;
    CHECK(under_change(watch(balance, counters(5, 4), now, 9s)));
    CHECK_FALSE(under_change(watch(balance, counters(5, 4), now, 2s)));
    // Later changes count as usual, in records as well.
    CHECK(under_change(balance.apply(counters(6, 4))));
    CHECK_FALSE(under_change(balance.apply(counters(6, 5))));
}

TEST_CASE("changes that come one after another for long are no lost end") {
    ChangeBalance balance;
    std::chrono::nanoseconds now = 0s;
    for (std::uint32_t i = 1; i < 30; ++i) {
        CHECK(under_change(watch(balance, counters(i, i - 1), now, 900ms)));
        now += 50ms;
        CHECK_FALSE(under_change(balance.observe(counters(i, i), now)));
    }
}

TEST_CASE("counters that stood still while nobody looked have not lost an end less") {
    for (const auto step : {50ms, 900ms, 1100ms, 3000ms, 60'000ms}) {
        ChangeBalance balance;
        const auto begun = std::chrono::nanoseconds(1h);
        auto now = begun;
        while (under_change(balance.observe(counters(1, 0), now)) && now < begun + 1h) {
            now += step;
        }
        const auto took = now - begun;
        CHECK(took >= ChangeBalance::patience);
        CHECK(took < ChangeBalance::patience + step + 1ms);
    }
}

TEST_CASE("an end that is lost while changes go on is found out however seldom one looks") {
    for (const auto step : {50ms, 1100ms, 3000ms, 60'000ms}) {
        ChangeBalance balance;
        std::chrono::nanoseconds now = 1h;
        std::uint32_t changes = 1;
        int looks = 0;
        while (under_change(balance.observe(counters(changes, changes - 1), now)) && looks < 1000) {
            now += step;
            changes += 3;
            ++looks;
        }
        CHECK(looks >= 10);
        CHECK(looks <= std::max<int>(10, static_cast<int>(ChangeBalance::patience / step)));
        // The next one is under way as long as it is.
        CHECK(under_change(balance.observe(counters(changes + 1, changes - 1), now + step)));
        CHECK_FALSE(under_change(balance.observe(counters(changes + 1, changes), now + 2 * step)));
    }
}

TEST_CASE("nobody looked for long and changes came meanwhile: that is no lasting change") {
    ChangeBalance balance;
    CHECK(under_change(balance.observe(counters(1, 0), 1s)));
    CHECK(under_change(balance.observe(counters(2, 1), 60s)));
    CHECK(under_change(balance.observe(counters(3, 2), 120s)));
    CHECK_FALSE(under_change(balance.observe(counters(3, 3), 121s)));
}

TEST_CASE("two changes at the same time, of which one lost its end") {
    ChangeBalance balance;
    std::chrono::nanoseconds now = 0s;
    CHECK(under_change(watch(balance, counters(2, 0), now, 5s)));
    CHECK(under_change(watch(balance, counters(2, 1), now, 4s)));
    CHECK_FALSE(under_change(watch(balance, counters(2, 1), now, 2s)));
}

TEST_CASE("a beginning that was missed still makes a difference to the time before it") {
    ChangeBalance balance;
    const auto before = balance.observe(counters(3, 3), 1s);
    const auto after = balance.observe(counters(3, 4), 2s);
    CHECK_FALSE(under_change(after));
    CHECK(after.begin[HPTRACE_SOURCE_NFTABLES] != before.begin[HPTRACE_SOURCE_NFTABLES]);
    // A wrong guess about a lost end corrects itself the same way.
    CHECK_FALSE(under_change(balance.observe(counters(4, 5), 3s)));
}

TEST_CASE("counters wrap") {
    ChangeBalance balance;
    CHECK_FALSE(under_change(balance.observe(counters(0xffffffff, 0xffffffff), 1s)));
    CHECK(under_change(balance.observe(counters(0, 0xffffffff), 1100ms)));
    CHECK_FALSE(under_change(balance.observe(counters(0, 0), 1200ms)));
}
