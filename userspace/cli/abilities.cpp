// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/abilities.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <linux/capability.h>

#include <array>

#include "capture/obstacles.hpp"
#include "cli/overview.hpp"
#include "state/conntrack_dump.hpp"
#include "state/reader.hpp"
#include "state/sources.hpp"

namespace hptrace {

namespace {

// The kernel gives nobody else its rules and its connections.
constexpr const char* needs_net_admin = "reading the kernel's rules and connections needs CAP_NET_ADMIN (run as root)";

Ability trace_ability(const std::optional<Error>& obstacle) {
    return {.name = "trace", .works = !obstacle, .why = obstacle ? describe(*obstacle) : std::string()};
}

Ability audit_ability(const std::optional<Error>& /*obstacle*/) {
    if (!has_capability(CAP_NET_ADMIN)) {
        return {.name = "audit", .works = false, .why = needs_net_admin};
    }
    const auto read = read_node_state({.pods = PodFolders::below(detect_host_root()), .changes = {}});
    const auto unread = unread_sources(*read.state);
    return {.name = "audit",
            .works = true,
            .why = unread.empty() ? std::string() : fmt::format("cannot read {}", fmt::join(unread, ", "))};
}

Ability existing_ability(const std::optional<Error>& /*obstacle*/) {
    if (!has_capability(CAP_NET_ADMIN)) {
        return {.name = "--existing", .works = false, .why = needs_net_admin};
    }
    auto dump = ConntrackDump::begin();
    const auto piece = dump ? dump->next() : std::unexpected(dump.error());
    return {.name = "--existing", .works = piece.has_value(), .why = piece ? std::string() : describe(piece.error())};
}

constexpr std::array<Ability (*)(const std::optional<Error>&), 3> rows{trace_ability, audit_ability, existing_ability};

}  // namespace

std::vector<Ability> find_abilities(const std::optional<Error>& obstacle) {
    std::vector<Ability> abilities;
    for (const auto& row : rows) {
        abilities.push_back(row(obstacle));
    }
    return abilities;
}

Error with_alternatives(Error refusal) {
    if (has_capability(CAP_NET_ADMIN)) {
        refusal.hint += refusal.hint.empty() ? "" : "; ";
        refusal.hint += "without tracing: hptrace audit shows conflicts, hptrace --existing judges open connections";
    }
    return refusal;
}

}  // namespace hptrace
