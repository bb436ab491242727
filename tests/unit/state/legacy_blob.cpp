// SPDX-License-Identifier: GPL-2.0-or-later
// The parser of iptables-legacy's blob against answers that are cut off or lie. AddressSanitizer watches in debug.
#include <linux/netfilter/x_tables.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cstddef>
#include <cstring>
#include <optional>
#include <set>
#include <vector>

#include "rules.hpp"
#include "state/interpret.hpp"
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
                const auto table = parse_legacy_blob(entries, blob.info, family, no_sets);
                refused += table ? 0U : 1U;
                if (table) {  // whatever it means
                    NodeState state;
                    interpret_rules({unpacked(*table)}, state);
                    interpret_rules({*table}, state);
                }
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

TEST_CASE("rules are decoded whenever they are looked at, and are the same each time") {
    for (const Family family : {Family::ipv4, Family::ipv6}) {
        const Copy blob = blob_of(family);
        const auto table = value_of(parse_legacy_blob(blob.entries, blob.info, family, no_sets));
        const auto once = unpacked(table);
        const auto again = unpacked(table);
        const TableView view(table);
        std::set<const void*> rules;
        for (std::size_t i = 0; i < table.chains.size(); ++i) {
            INFO(table.chains[i].name);
            CHECK(table.chains[i].rules.empty());  // nothing of it is kept
            CHECK(once.chains[i].rules == again.chains[i].rules);
            for (int walk = 0; walk < 2; ++walk) {
                for (const Rule& rule : view.rules(table.chains[i])) {
                    rules.insert(view.identity(rule));
                }
            }
        }
        CHECK(rules.size() == 3);
        CHECK(view.rule_count() == 3);
        const Chain& dnat = *view.find("CNI-DN-x");
        CHECK(once.chains[view.place_of(dnat)].rules.at(0).target.kind == TargetKind::dnat);
        const Chain& entry = *view.find("CNI-HOSTPORT-DNAT");
        CHECK(view.any_jump(entry, [&](const Chain& to) { return &to == &dnat; }));
        CHECK_FALSE(view.any_jump(dnat, [](const Chain& /*to*/) { return true; }));
        CHECK(view.jump_of(*view.rules(entry).begin()) == &dnat);
        CHECK(view.jump_of(*view.rules(dnat).begin()) == nullptr);
    }
}

TEST_CASE("a jump leads to where its offset says, whatever the chains are called") {
    Copy blob = blob_of(Family::ipv4);
    // The chain with the DNAT gets the name of the one that leads to it: no tool writes that, a process may.
    const std::string_view text(reinterpret_cast<const char*>(blob.entries.data()), blob.entries.size());
    const auto name = text.find("CNI-DN-x");
    REQUIRE(name != std::string_view::npos);
    std::memcpy(&blob.entries[name], "CNI-HOSTPORT-DNAT", sizeof("CNI-HOSTPORT-DNAT"));
    NodeState state;
    interpret_rules({value_of(parse_legacy_blob(blob.entries, blob.info, Family::ipv4, no_sets))}, state);
    REQUIRE(state.hostports.size() == 1);
    CHECK(state.hostports[0].port == PortRange{80, 80});
}

TEST_CASE("a rule that both hooks lead to and that is not understood is told once") {
    const auto state = in_fresh_netns([] {
        restore("legacy", Family::ipv4,
                "*nat\n:CNI-HOSTPORT-DNAT - [0:0]\n:CNI-DN-x - [0:0]\n"
                "-A PREROUTING -j CNI-HOSTPORT-DNAT\n-A OUTPUT -j CNI-HOSTPORT-DNAT\n"
                "-A CNI-HOSTPORT-DNAT -p tcp -m multiport --ports 80 -j CNI-DN-x\n"
                "-A CNI-HOSTPORT-DNAT -p udp -m multiport --ports 80 -j CNI-DN-x\n"
                "-A CNI-DN-x -p tcp -j DNAT --to-destination 10.0.0.1\nCOMMIT\n");
        NodeState read;
        interpret_rules(read_all(), read);
        return read;
    });
    REQUIRE(state.unread_rules.size() == 2);
    CHECK(state.unread_rules[0].text != state.unread_rules[1].text);
}

TEST_CASE("a long rule takes more of what may be done than a short one") {
    const auto efforts = in_fresh_netns([] {
        std::string comments;
        for (int i = 0; i < 50; ++i) {
            comments += " -m comment --comment x";
        }
        restore("legacy", Family::ipv4, "*nat\n-A OUTPUT -j RETURN\n-A OUTPUT" + comments + " -j RETURN\nCOMMIT\n");
        const auto tables = read_all();
        std::vector<std::size_t> found;
        RuleRange rules(tables.at(0), *tables.at(0).find_chain("OUTPUT"));
        for ([[maybe_unused]] const Rule& rule : rules) {
            found.push_back(rules.effort());
        }
        return found;
    });
    REQUIRE(efforts.size() == 2);
    CHECK(efforts[0] == 1);
    CHECK(efforts[1] > 10);
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
