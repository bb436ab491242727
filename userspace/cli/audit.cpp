// SPDX-License-Identifier: GPL-2.0-or-later
// hptrace audit: the conflicts that can be read from the rules, before any traffic.
#include <unistd.h>

#include <algorithm>

#include "cli/kube.hpp"
#include "cli/overview.hpp"
#include "cli/run.hpp"
#include "judge/judge.hpp"
#include "names/names.hpp"
#include "output/output.hpp"
#include "state/dump.hpp"
#include "state/netns.hpp"
#include "state/reader.hpp"

namespace hptrace {

namespace {

AuditSummary summarize(const FoundConflicts& found, const std::vector<LeakedRule>& leaked, const NodeState& state,
                       const AuditOptions& options) {
    AuditSummary summary;
    for (const auto& conflict : found.conflicts) {
        auto& count = conflict.bypass                       ? summary.harmless
                      : conflict.winner == Winner::hostport ? summary.taken
                      : conflict.winner == Winner::depends  ? summary.possible
                                                            : summary.served;
        ++count;
    }
    summary.leaked = leaked.size();
    summary.unread_sources = unread_sources(state);
    summary.unread_rules = state.unread_rules.size();
    summary.doubts = not_proven(state, found.doubts);
    summary.alarm = summary.taken > 0 || (options.strict && summary.possible + summary.leaked > 0);
    summary.exit_status = summary.alarm ? exit_hijack : summary.doubts.empty() ? exit_clean : exit_unproven;
    return summary;
}

Result<NodeStatePtr> read_state(const AuditOptions& options) {
    if (options.from) {
        return read_dump(*options.from);
    }
    std::optional<NetnsGuard> netns;
    if (!options.netns.empty()) {
        auto entered = NetnsGuard::enter(options.netns);
        if (!entered) {
            return std::unexpected(entered.error());
        }
        netns.emplace(*std::move(entered));
    }
    return read_node_state(
               {.pods = PodFolders::below(node_root_of(netns_pid(options.netns), options.host_root)), .changes = {}})
        .state;
}

Result<ClusterNamesPtr> cluster_names(const AuditOptions& options, const NodeState& state) {
    auto kube = start_kube_names(options.kube, options.from ? state.node : kube_node_name());
    if (!kube) {
        return std::unexpected(kube.error());
    }
    if (*kube == nullptr) {
        return nullptr;
    }
    await_first_names(**kube);
    return (*kube)->names();
}

}  // namespace

int run_audit(const AuditOptions& options) {
    const auto read = read_state(options);
    if (!read) {
        return fail(read.error());
    }
    const auto& state = *read;
    const auto cluster = cluster_names(options, *state);
    if (!cluster) {
        return fail(cluster.error());
    }
    auto found = find_conflicts(*state, options.filter);
    for (auto& conflict : found.conflicts) {
        add_names(conflict, *state, cluster->get());
    }
    const auto leaked = find_leaked(*state, options.filter);

    Writer writer(STDOUT_FILENO);
    const auto output =
        options.json
            ? make_json_output(writer, {.node = state->node, .version = HPTRACE_VERSION, .netns = state->netns})
            : make_text_output(writer, {});
    output->begin(overview(*state, options.filter, found.doubts));
    if (options.json) {
        for (const auto& conflict : found.conflicts) {
            output->conflict(conflict);
        }
        for (const auto& rule : leaked) {
            output->leaked(rule);
        }
    } else if (!found.conflicts.empty() || !leaked.empty()) {
        print_audit(writer, found.conflicts, leaked);
    }
    for (const auto& lines : {not_understood(*state), nothing_to_see(*state, options.filter)}) {
        std::ranges::for_each(lines, note);
    }
    const auto summary = summarize(found, leaked, *state, options);
    output->audited(summary);
    return finish(writer, summary.exit_status);
}

}  // namespace hptrace
