// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/accepted.hpp"

#include <catch2/catch_test_macros.hpp>
#include <filesystem>

#include "judge/node.hpp"
#include "temporary_folder.hpp"

using namespace hptrace;
using namespace hptrace::test;

namespace {

Accepted accepted(std::string_view text) {
    const auto parsed = Accepted::parse(text);
    REQUIRE(parsed);
    return *parsed;
}

Finding hijack() {
    auto state = ipvs_node(Backend::iptables_nft);
    state.index();
    auto found = judge(connection("10.96.0.10:3306", "10.224.0.222:3306"), state);
    found.rule_pod = Pod{"default", "mysql-b-0"};
    return found;
}

}  // namespace

TEST_CASE("a line accepts what all its words fit") {
    const auto found = hijack();
    REQUIRE(found.verdict == Verdict::hijacked);
    for (const auto& line :
         {"conflict=" + found.conflict_id, std::string("port=3306"), std::string("pod=default/mysql-b-*"),
          std::string("\tport=3306   destination=10.96.0.0/16 # known\r\n"), std::string("# comment\n\nport=3306")}) {
        INFO(line);
        CHECK(accepted(line).covers(found));
    }
    for (const auto* line : {"", "# port=3306", "port=3307", "pod=default/mysql-c-*", "port=3306 pod=other/*",
                             "service=default/mysql-a", "conflict=c-00000000", "destination=10.97.0.0/16"}) {
        INFO(line);
        CHECK_FALSE(accepted(line).covers(found));
    }
}

TEST_CASE("a conflict is accepted like its connections, a connection without alarm is not") {
    auto state = ipvs_node(Backend::iptables_nft);
    state.index();
    const auto conflict = find_conflicts(state, {}).conflicts.front();
    CHECK(accepted("conflict=" + conflict.conflict_id).covers(conflict));
    CHECK(accepted("conflict=" + conflict.conflict_id).covers(hijack()));
    CHECK_FALSE(accepted("pod=default/*").covers(conflict));  // its pod is not known

    auto fine = hijack();
    fine.verdict = Verdict::ok;
    CHECK_FALSE(accepted("port=3306").covers(fine));
}

TEST_CASE("a line that is not understood is named") {
    for (const auto* line :
         {"3306", "port=", "port=70000", "port=x", "colour=red", "destination=10.0.0.0/33", "=", "port=1 x"}) {
        INFO(line);
        const auto parsed = Accepted::parse(std::string("port=1\n") + line);
        REQUIRE_FALSE(parsed);
        CHECK(parsed.error().what.starts_with("line 2: "));
    }
}

TEST_CASE("a message quotes the beginning of a long line") {
    const auto parsed = Accepted::parse(std::string(5UL * 1024 * 1024, 'x'));
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error().what.size() < 200);
}

TEST_CASE("what has no end is not read as a file") {
    CHECK(Accepted::read("/dev/zero").error().what == "--ignore /dev/zero: not a file but a device");
    const TemporaryFolder folder;
    folder.write("holes", "port=1\n");
    std::filesystem::resize_file(folder.path() / "holes", 10'000'000'000);
    CHECK(Accepted::read(folder.path() / "holes").error().what.ends_with("holes: larger than 16 MiB"));
}

TEST_CASE("whom a pod says it is accepts nothing") {
    auto finding = hijack();
    finding.rule_pod = Pod{"default", "mysql-b-0"};
    CHECK(accepted("pod=default/mysql-b-0").covers(finding));
    finding.rule_pod->by_own_account = true;
    CHECK_FALSE(accepted("pod=default/mysql-b-0").covers(finding));
}

TEST_CASE("a file that cannot be read is an error") {
    CHECK_FALSE(Accepted::read("/nonexistent"));
    CHECK_FALSE(Accepted::read("/"));
    CHECK(Accepted::read("/dev/null"));
}
