// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"

namespace hptrace {

// One of the things hptrace does, and whether this kernel and this user let it.
struct Ability {
    std::string name;  // as on the command line
    bool works = false;
    std::string why;  // it does not, or what it would leave out; empty: it works
};

// Trace, audit, --existing, in this order. Reads what the last two read. obstacle: the error a trace would end with.
std::vector<Ability> find_abilities(const std::optional<Error>& obstacle);

// The refusal of a trace, with what works without one added to what can be done about it.
Error with_alternatives(Error refusal);

}  // namespace hptrace
