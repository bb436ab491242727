// SPDX-License-Identifier: GPL-2.0-or-later
// What the interpreters make of rules, as one line per Service.
#pragma once

#include <fmt/format.h>

#include <string>

#include "state/node_state.hpp"

namespace hptrace {

inline std::string service_line(const Service& service) {
    std::string line = fmt::format("{} {}:{}/{}", to_string(service.kind),
                                   service.ip            ? to_string(*service.ip)
                                   : service.on_loopback ? "any"
                                                         : "any but loopback",
                                   service.port, to_string(service.protocol));
    if (service.name) {
        line += fmt::format(" {}/{}:{}", service.name->ns, service.name->name, service.name->port);
    }
    for (const Endpoint& endpoint : service.endpoints) {
        line += " " + to_string(endpoint);
    }
    line += service.persistent ? ", persistent" : "";
    line += service.external_local ? ", local" : "";
    line += service.handles_outside ? ", outside handled" : "";
    for (const Prefix& source : service.allowed_sources) {
        line += ", from " + to_string(source);
    }
    return line;
}

}  // namespace hptrace
