// SPDX-License-Identifier: GPL-2.0-or-later
// What people read about a verdict: why it is so and what to do. Nothing is decided here.
#pragma once

#include <optional>
#include <string>

#include "judge/finding.hpp"

namespace hptrace {

// "namespace/name" of a pod or a Service.
template <class Object>
std::string full_name(const Object& object) {
    return object.ns + "/" + object.name;
}

// Why the HostPort rule won, one line. `destination`: the address asked for; absent: any address of the node.
std::string reason_text(ReasonCode code, const Service& service, const HostPortRule& rule,
                        const std::optional<Address>& destination, const NodeState& state);

struct Advice {
    std::string fix;        // empty: nothing to do
    std::string otherwise;  // another way, may be empty

    [[nodiscard]] std::string text() const;  // both on one line
};

// What to do about an alarm. Call it after add_names(): the advice names the pod.
Advice advice_for(const Finding& finding);
Advice advice_for(const Conflict& conflict);

// The command that takes a rule out of action that is left over, quoted for a shell. Nothing: its names, or those of
// its chain, could mean something else to the tool that takes them.
std::optional<std::string> removal_command(const HostPortRule& rule);

// What to do about a rule that is, or may be, left over; a command only if it is certain.
std::string advice_for(const LeakedRule& leaked);

// Whose hostPort it is, for people: "default/mysql-b-0", "sandbox 0123456789ab", "10.224.0.222".
std::string owner_text(const HostPortRule& rule, const std::optional<Pod>& pod);

// "10.96.0.10:3306", "*:30306" for a NodePort of any address.
std::string destination_text(const Service& service);

}  // namespace hptrace
