// SPDX-License-Identifier: GPL-2.0-or-later
#include "capture/change_counts.hpp"

#include <catch2/catch_test_macros.hpp>
#include <map>
#include <set>
#include <thread>

using namespace hptrace;
using namespace std::chrono_literals;

namespace {

constexpr std::uint32_t here = 4026531840;
constexpr std::uint32_t there = 4026532417;

// What the kernel has counted, by namespace.
struct Kernel {
    std::map<std::uint32_t, hptrace_changes> counted;
    std::chrono::nanoseconds now = 1h;
    ChangeCounts counts{[this](std::uint32_t netns) { return counted[netns]; }, [this] { return now; }};

    void begin(std::uint32_t netns) { ++counted[netns].begin[HPTRACE_SOURCE_NFTABLES]; }
    void end(std::uint32_t netns) { ++counted[netns].end[HPTRACE_SOURCE_NFTABLES]; }
};

bool under_change(const hptrace_changes& changes) {
    return changes.begin[HPTRACE_SOURCE_NFTABLES] != changes.end[HPTRACE_SOURCE_NFTABLES];
}

}  // namespace

TEST_CASE("a namespace's counters are not moved by another one's changes") {
    Kernel kernel;
    const auto before = kernel.counts.now(here);
    kernel.begin(there);
    CHECK(under_change(kernel.counts.now(there)));
    const auto after = kernel.counts.now(here);
    CHECK_FALSE(under_change(after));
    CHECK(after.begin[HPTRACE_SOURCE_NFTABLES] == before.begin[HPTRACE_SOURCE_NFTABLES]);
}

TEST_CASE("what a record carries is repaired as its own namespace's counters are") {
    Kernel kernel;
    kernel.begin(here);  // its end is missed
    kernel.begin(there);
    CHECK(under_change(kernel.counts.now(here)));
    CHECK(under_change(kernel.counts.now(there)));
    for (int i = 0; i < 11; ++i) {
        kernel.now += 1s;
        kernel.end(there);
        kernel.begin(there);
        kernel.counts.now(there);
        kernel.end(there);
        kernel.counts.look();
        kernel.begin(there);
    }
    CHECK_FALSE(under_change(kernel.counts.now(here)));
    CHECK_FALSE(under_change(kernel.counts.repaired(here, kernel.counted[here])));
    CHECK(under_change(kernel.counts.now(there)));
    CHECK(under_change(kernel.counts.repaired(there, kernel.counted[there])));
}

TEST_CASE("a missed end is found out in a namespace that nothing but records tells of") {
    Kernel kernel;
    kernel.begin(here);
    CHECK(under_change(kernel.counts.repaired(here, kernel.counted[here])));
    kernel.counts.look();
    kernel.now += 11s;
    kernel.counts.look();
    CHECK_FALSE(under_change(kernel.counts.repaired(here, kernel.counted[here])));
}

TEST_CASE("counters may be asked for by several threads at once") {
    Kernel kernel;
    kernel.counted[here].begin[HPTRACE_SOURCE_IPVS] = kernel.counted[here].end[HPTRACE_SOURCE_IPVS] = 5;
    kernel.counted[there] = {};
    const auto ask = [&kernel] {
        for (int i = 0; i < 10'000; ++i) {
            kernel.counts.now(here);
            kernel.counts.repaired(there, {});
            kernel.counts.look();
        }
    };
    std::thread other(ask);
    ask();
    other.join();
    CHECK(kernel.counts.now(here).begin[HPTRACE_SOURCE_IPVS] == 5);
}

TEST_CASE("namespaces seldom share a slot, whatever lies between their numbers") {
    for (const std::uint32_t step : {1U, 2U, 3U, 8U, 64U, 69U, 128U, 256U, 4096U}) {
        std::set<std::uint32_t> slots;
        constexpr std::uint32_t namespaces = 500;
        for (std::uint32_t i = 0; i < namespaces; ++i) {
            const auto slot = hptrace_change_slot(4026531840U + i * step);
            REQUIRE(slot < HPTRACE_CHANGE_SLOTS);
            slots.insert(slot);
        }
        INFO("in steps of " << step << ": " << slots.size());
        CHECK(slots.size() > namespaces * 8 / 10);
    }
}
