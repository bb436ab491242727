// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/live_judge.hpp"

#include "judge/judge.hpp"
#include "names/names.hpp"

namespace hptrace {

namespace {

// How old a state may be that nothing watches, before an unexplained rewrite makes hptrace read it again.
constexpr std::uint64_t unwatched_limit_ns = 1'000'000'000;

}  // namespace

Finding LiveJudge::judge(const Connection& connection) {
    auto finding = connection.existing ? judge_existing(connection) : judge_new(connection);
    add_names(finding, *history_.newest());
    return finding;
}

Finding LiveJudge::judge_new(const Connection& connection) {
    const auto look = [&] {
        auto [before, after] = history_.around(connection);
        if (!before && !after) {
            after = history_.newest();  // nothing settled was read: no alarm can come of it
        }
        return judge_between(connection, before.get(), after.get());
    };
    auto finding = look();
    if (!history_.all_tracked() && finding.verdict != Verdict::ok && history_.age() >= unwatched_limit_ns) {
        const auto before = history_.newest();
        return judge_between(connection, before.get(), history_.refresh().get());
    }
    if (worth_another_look(finding)) {
        history_.refresh();
        finding = look();
    }
    return finding;
}

// Rules may have changed between the read of the state and the dump of conntrack: an alarm needs a state from after
// the dump to agree.
Finding LiveJudge::judge_existing(const Connection& connection) {
    const auto before = history_.newest();
    auto finding = hptrace::judge(connection, *before);
    if (!is_alarm(finding.verdict) || before->boot_ns > connection.boot_ns) {
        return finding;
    }
    return judge_between(connection, before.get(), history_.refresh().get());
}

// libcni writes its cache after the plugins have made the rules: a sandbox that seems gone may just have come.
bool LiveJudge::worth_another_look(const Finding& finding) {
    return finding.rule && finding.rule_stale && known_stale_.insert(finding.rule->container_id).second;
}

}  // namespace hptrace
