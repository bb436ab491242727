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

int audit_status(const std::vector<Conflict>& conflicts, const std::vector<HostPortRule>& leaked, bool strict,
                 bool can_be_clean) {
    const auto counts = [strict](const Conflict& conflict) {
        return !conflict.bypass &&
               (conflict.winner == Winner::hostport || (strict && conflict.winner == Winner::depends));
    };
    if (std::ranges::any_of(conflicts, counts) || (strict && !leaked.empty())) {
        return exit_hijack;
    }
    return can_be_clean ? exit_clean : exit_unproven;
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
    auto conflicts = find_conflicts(*state, options.filter);
    for (auto& conflict : conflicts) {
        add_names(conflict, *state, cluster->get());
    }
    const auto leaked = find_leaked(*state, options.filter);

    Writer writer(STDOUT_FILENO);
    if (options.json) {
        const auto output = make_json_output(writer, {.node = state->node, .netns = state->netns});
        for (const auto& conflict : conflicts) {
            output->conflict(conflict);
        }
        for (const auto& rule : leaked) {
            output->leaked(rule);
        }
    } else {
        make_text_output(writer, {})->begin(overview(*state, options.filter));
        if (conflicts.empty() && leaked.empty()) {
            writer.line("no conflict between a Service and a HostPort rule");
        } else {
            print_audit(writer, conflicts, leaked);
        }
    }
    for (const auto& lines : {not_understood(*state), nothing_to_see(*state, options.filter)}) {
        std::ranges::for_each(lines, note);
    }
    return finish(writer, audit_status(conflicts, leaked, options.strict, can_be_clean(*state)));
}

}  // namespace hptrace
