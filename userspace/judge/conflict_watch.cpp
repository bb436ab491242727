// SPDX-License-Identifier: GPL-2.0-or-later
#include "judge/conflict_watch.hpp"

#include <set>
#include <utility>

#include "judge/doubts.hpp"
#include "judge/judge.hpp"

namespace hptrace {

ConflictWatch::Changes ConflictWatch::update(const FoundConflicts& now, const NodeState& state, std::uint64_t read_ns,
                                             ToCome to_come) {
    Changes changes;
    std::set<std::string> present;
    std::set<std::string> harmless;
    for (const auto& conflict : now.conflicts) {
        if (conflict.bypass || conflict.winner == Winner::service) {
            // Who wins, and whether it does harm, follows from the endpoints as well.
            const bool doubtful = !doubt_about_endpoints(state, conflict.service).empty();
            (doubtful ? present : harmless).insert(conflict.conflict_id);
            continue;
        }
        present.insert(conflict.conflict_id);
        const bool is_known = known_.contains(conflict.conflict_id);
        if ((!is_known && known_.size() >= most_conflicts) || must_wait(conflict, read_ns, to_come)) {
            continue;
        }
        const auto [known, first] = known_.try_emplace(conflict.conflict_id, conflict);
        if (first || known->second.winner != conflict.winner) {
            known->second = conflict;
            changes.appeared.push_back(conflict);
        }
    }
    std::erase_if(nameless_, [&present](const auto& entry) { return !present.contains(entry.first); });
    for (auto known = known_.begin(); known != known_.end();) {
        const bool overlooked = now.given_up && !harmless.contains(known->first);
        if (present.contains(known->first) || overlooked || may_remain(known->second, state)) {
            ++known;
            continue;
        }
        changes.ended.push_back(std::move(known->second));
        known = known_.erase(known);
    }
    return changes;
}

std::vector<Conflict> ConflictWatch::end() {
    std::vector<Conflict> ended;
    for (auto& [id, conflict] : std::exchange(known_, {})) {
        ended.push_back(std::move(conflict));
    }
    nameless_.clear();
    return ended;
}

bool ConflictWatch::must_wait(const Conflict& conflict, std::uint64_t read_ns, ToCome to_come) {
    const bool no_pod = !conflict.rule.container_id.empty() && !conflict.rule_pod;
    const bool no_service = !conflict.service.name;
    if (known_.contains(conflict.conflict_id)) {
        return false;
    }
    const auto [seen, first] = nameless_.try_emplace(conflict.conflict_id, Nameless{read_ns, to_come.pod});
    const auto waited = read_ns - seen->second.since_ns;
    const bool for_pod = no_pod && to_come.pod && seen->second.pod_to_come && waited < longest_wait_for_pod_ns;
    const bool for_service = no_service && to_come.service && waited < longest_wait_for_service_ns;
    if (for_pod || for_service) {
        return true;
    }
    nameless_.erase(seen);
    return false;
}

}  // namespace hptrace
