// SPDX-License-Identifier: GPL-2.0-or-later
#include "judge/finding.hpp"

#include <array>

namespace hptrace {

namespace {

constexpr std::array<std::string_view, verdict_count> verdict_names{"unknown",  "unsettled", "proxied", "bypassed",
                                                                    "hijacked", "foreign",   "stale",   "ok",
                                                                    "exposed",  "hostport",  "other"};

constexpr std::array<std::string_view, 10> reason_names{
    "other_backend", "jump_before_kube_services", "nodeport_ipvs", "no_local_check", "no_accept", "no_endpoints",
    "etp_local",     "lb_source_ranges",          "hook_order",    "not_served_here"};

}  // namespace

std::string_view to_string(Verdict verdict) {
    return verdict_names.at(static_cast<std::size_t>(verdict));
}

std::optional<Verdict> parse_verdict(std::string_view text) {
    for (std::size_t i = 0; i < verdict_names.size(); ++i) {
        if (verdict_names.at(i) == text) {
            return static_cast<Verdict>(i);
        }
    }
    return std::nullopt;
}

bool is_alarm(Verdict verdict) {
    return verdict == Verdict::hijacked || verdict == Verdict::stale || verdict == Verdict::foreign;
}

std::string_view to_string(ReasonCode code) {
    return reason_names.at(static_cast<std::size_t>(code));
}

std::string_view to_string(Attribution attribution) {
    return attribution == Attribution::exact ? "exact" : "inferred";
}

std::string_view to_string(Winner winner) {
    switch (winner) {
        case Winner::hostport:
            return "hostport";
        case Winner::service:
            return "service";
        case Winner::depends:
            return "depends";
    }
    return "depends";
}

}  // namespace hptrace
