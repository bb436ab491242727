// SPDX-License-Identifier: GPL-2.0-or-later
// The parser of iptables-legacy's blob against answers that are cut off or lie. AddressSanitizer watches in debug.
#include <catch2/catch_test_macros.hpp>
#include <cstddef>
#include <span>

#include "rules.hpp"
#include "state/legacy.hpp"

using namespace hptrace;

namespace {

const SetNameOf no_sets = [](std::uint16_t /*index*/) { return std::optional<std::string>(); };

LegacyBlob blob_of(Family family) {
    return in_fresh_netns([family] {
        const std::string address = family == Family::ipv4 ? "10.244.1.7:8080" : "[2001:db8::2]:8080";
        restore("legacy", family,
                "*nat\n:CNI-HOSTPORT-DNAT - [0:0]\n:CNI-DN-x - [0:0]\n"
                "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n"
                "-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment \"dnat name: \\\"n\\\" id: \\\"i\\\"\" "
                "-m multiport --dports 80,443 -j CNI-DN-x\n"
                "-A CNI-DN-x -p tcp -m tcp --dport 80 -j DNAT --to-destination " +
                    address + "\nCOMMIT\n");
        return value_of(read_legacy_blob("nat", family));
    });
}

}  // namespace

TEST_CASE("every truncation of a table is an error or a table, never a crash") {
    for (const Family family : {Family::ipv4, Family::ipv6}) {
        const LegacyBlob blob = blob_of(family);
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
        const LegacyBlob blob = blob_of(family);
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
    const LegacyBlob blob = blob_of(Family::ipv4);
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

TEST_CASE("an error names the table and where it is malformed") {
    LegacyBlob blob = blob_of(Family::ipv6);
    blob.entries.resize(8);
    blob.info.size = 8;
    const auto table = parse_legacy_blob(blob.entries, blob.info, Family::ipv6, no_sets);
    REQUIRE_FALSE(table);
    CHECK(describe(table.error()) == "table nat of ip6tables-legacy is malformed at offset 0: an entry is cut off");
}
