// SPDX-License-Identifier: GPL-2.0-or-later
// The parser of iptables-legacy's blob against answers that are cut off or lie. AddressSanitizer watches in debug.
#include <linux/netfilter/x_tables.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "rules.hpp"
#include "state/legacy.hpp"

using namespace hptrace;

namespace {

const SetNameOf no_sets = [](std::uint16_t /*index*/) { return std::optional<std::string>(); };

// A copy, for tests to change.
struct Copy {
    LegacyInfo info;
    std::vector<std::byte> entries;
};

Copy blob_of(Family family) {
    return in_fresh_netns([family] {
        const std::string address = family == Family::ipv4 ? "10.244.1.7:8080" : "[2001:db8::2]:8080";
        restore("legacy", family,
                "*nat\n:CNI-HOSTPORT-DNAT - [0:0]\n:CNI-DN-x - [0:0]\n"
                "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n"
                "-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment \"dnat name: \\\"n\\\" id: \\\"i\\\"\" "
                "-m multiport --dports 80,443 -j CNI-DN-x\n"
                "-A CNI-DN-x -p tcp -m tcp --dport 80 -j DNAT --to-destination " +
                    address + "\nCOMMIT\n");
        const auto blob = value_of(read_legacy_blob("nat", family));
        const auto entries = blob.entries();
        return Copy{blob.info, {entries.begin(), entries.end()}};
    });
}

}  // namespace

TEST_CASE("every truncation of a table is an error or a table, never a crash") {
    for (const Family family : {Family::ipv4, Family::ipv6}) {
        const Copy blob = blob_of(family);
        REQUIRE(parse_legacy_blob(blob.entries, blob.info, family, no_sets));
        for (std::size_t size = 0; size < blob.entries.size(); ++size) {
            // A copy of exactly this size, so that a read behind it is seen.
            const std::vector<std::byte> prefix(blob.entries.begin(),
                                                blob.entries.begin() + static_cast<std::ptrdiff_t>(size));
            REQUIRE_FALSE(parse_legacy_blob(prefix, blob.info, family, no_sets));
            LegacyInfo info = blob.info;
            info.size = static_cast<std::uint32_t>(size);
            for (std::uint32_t entries = 0; entries <= blob.info.num_entries; ++entries) {
                info.num_entries = entries;
                REQUIRE_FALSE(parse_legacy_blob(prefix, info, family, no_sets));  // its end is missing
            }
        }
    }
}

TEST_CASE("no byte of a table is trusted") {
    for (const Family family : {Family::ipv4, Family::ipv6}) {
        const Copy blob = blob_of(family);
        std::size_t refused = 0;
        for (std::size_t at = 0; at < blob.entries.size(); ++at) {
            for (const auto value : {std::byte{0}, std::byte{1}, std::byte{0x7f}, std::byte{0xff}}) {
                auto entries = blob.entries;
                entries[at] = value;
                refused += parse_legacy_blob(entries, blob.info, family, no_sets) ? 0U : 1U;
            }
        }
        CHECK(refused > 0);
    }
}

TEST_CASE("hooks and counts that do not fit the entries are refused") {
    const Copy blob = blob_of(Family::ipv4);
    const auto parses = [&blob](const LegacyInfo& info) {
        return parse_legacy_blob(blob.entries, info, Family::ipv4, no_sets).has_value();
    };
    CHECK(parses(blob.info));
    LegacyInfo info = blob.info;
    info.hook_entry[0] += 4;
    CHECK_FALSE(parses(info));
    info = blob.info;
    info.valid_hooks = 0;
    CHECK_FALSE(parses(info));
    info = blob.info;
    ++info.num_entries;
    CHECK_FALSE(parses(info));
    CHECK_FALSE(parse_legacy_blob(blob.entries, blob.info, Family::ipv6, no_sets));
    CHECK_FALSE(parse_legacy_blob({}, {}, Family::ipv4, no_sets));
}

TEST_CASE("what was parsed is not looked at again, so its memory can go") {
    for (const Family family : {Family::ipv4, Family::ipv6}) {
        auto blob = blob_of(family);
        const auto whole = value_of(parse_legacy_blob(blob.entries, blob.info, family, no_sets));
        std::size_t gone = 0;
        const auto table = value_of(parse_legacy_blob(blob.entries, blob.info, family, no_sets, [&](std::size_t size) {
            CHECK(size > gone);
            gone = size;
            std::ranges::fill(std::span(blob.entries).first(size), std::byte{});
        }));
        CHECK(gone == blob.entries.size());
        REQUIRE(table.chains.size() == whole.chains.size());
        for (std::size_t i = 0; i < table.chains.size(); ++i) {
            CHECK(table.chains[i].name == whole.chains[i].name);
            CHECK(table.chains[i].rules == whole.chains[i].rules);
        }
    }
}

TEST_CASE("only packet counters do not make a table another one") {
    for (const Family family : {Family::ipv4, Family::ipv6}) {
        const Copy blob = blob_of(family);
        const auto version = fingerprint_of(blob.entries, blob.info, family);
        std::size_t ignored = 0;
        for (std::size_t at = 0; at < blob.entries.size(); ++at) {
            auto other = blob;
            other.entries[at] ^= std::byte{1};
            ignored += fingerprint_of(other.entries, other.info, family) == version ? 1U : 0U;
        }
        CHECK(ignored == blob.info.num_entries * sizeof(xt_counters));
        auto shorter = blob;
        shorter.entries.pop_back();
        CHECK(fingerprint_of(shorter.entries, shorter.info, family) != version);
        auto hooked = blob;
        ++hooked.info.hook_entry[0];
        CHECK(fingerprint_of(hooked.entries, hooked.info, family) != version);
    }
}

TEST_CASE("tables are taken apart only if they are new") {
    struct Seen {
        bool first, same, counted, changed;
    };
    const auto seen = in_fresh_netns([] {
        const auto version = [](std::optional<std::uint64_t> known) {
            const auto read = value_of(read_legacy_tables_if_new(Family::ipv4, known));
            return read ? std::optional(read->version) : std::nullopt;
        };
        run("iptables-legacy -w -t nat -A OUTPUT -j ACCEPT && ip link set lo up");
        Seen now{};
        const auto first = version(std::nullopt);
        now.first = first.has_value();
        now.same = version(first).has_value();
        run("iptables-legacy -w -t nat -A OUTPUT -j ACCEPT -c 7 8 && iptables-legacy -w -t nat -D OUTPUT 2");
        now.counted = version(first).has_value();
        run("iptables-legacy -w -t nat -A OUTPUT -j RETURN");
        now.changed = version(first).has_value();
        return now;
    });
    CHECK(seen.first);
    CHECK_FALSE(seen.same);
    CHECK_FALSE(seen.counted);  // replaced by the same rules
    CHECK(seen.changed);
}

TEST_CASE("an error names the table and where it is malformed") {
    Copy blob = blob_of(Family::ipv6);
    blob.entries.resize(8);
    blob.info.size = 8;
    const auto table = parse_legacy_blob(blob.entries, blob.info, Family::ipv6, no_sets);
    REQUIRE_FALSE(table);
    CHECK(describe(table.error()) == "table nat of ip6tables-legacy is malformed at offset 0: an entry is cut off");
}
