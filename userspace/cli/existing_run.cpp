// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/existing_run.hpp"

#include <utility>

namespace hptrace {

namespace {

// More pieces than this are not kept waiting for a state.
constexpr std::size_t most_waiting = 4 * ConntrackDump::piece;

}  // namespace

ExistingRun::ExistingRun(TracedNamespaces& namespaces, std::shared_ptr<ExistingConnections> existing)
    : namespaces_(namespaces), existing_(std::move(existing)) {}

ExistingRun::Key ExistingRun::key_of(const Connection& connection) {
    return {connection.netns, connection.zone, connection.protocol, connection.client, connection.original};
}

void ExistingRun::ask() {
    asked_ = true;
    namespaces_.ask(existing_, [came = came_](ExistingPiece piece) {
        came->last = piece.last;
        came->piece = std::move(piece);
    });
}

void ExistingRun::saw(const Connection& live) {
    live_.insert(key_of(live));
}

std::optional<std::string> ExistingRun::turn(const AllCame& all_came) {
    std::optional<std::string> problem;
    if (came_->piece && all_came(came_->piece->boot_ns)) {
        auto piece = *std::exchange(came_->piece, std::nullopt);
        asked_ = false;
        for (auto& connection : piece.connections) {
            if (!live_.contains(key_of(connection))) {
                namespaces_.take_existing(std::move(connection));
            }
        }
        if (!piece.problem.empty()) {
            problem = std::move(piece.problem);
        }
    }
    if (!asked_ && !came_->last && namespaces_.existing_waiting() < most_waiting) {
        ask();
    }
    return problem;
}

void ExistingRuns::judge(ExistingConnections::Wanted wanted) {
    runs_.emplace_back(
        namespaces_,
        namespaces_.existing(everywhere_, [filter = filter_, wanted = std::move(wanted)](const Connection& connection) {
            return matches(filter, connection) && wanted(connection);
        }));
}

void ExistingRuns::saw(const Connection& live) {
    for (auto& run : runs_) {
        run.saw(live);
    }
}

std::optional<std::string> ExistingRuns::turn(const ExistingRun::AllCame& all_came) {
    if (runs_.empty()) {
        return std::nullopt;
    }
    auto problem = runs_.front().turn(all_came);
    if (runs_.front().over()) {
        runs_.pop_front();
    }
    return problem;
}

}  // namespace hptrace
