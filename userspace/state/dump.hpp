// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>

#include "base/error.hpp"
#include "state/node_state.hpp"

namespace hptrace {

// The state of the node whose tools' output is in `folder`, in the files of dump_files.hpp. Executes nothing, needs no
// privilege, and gives the same model as read_node_state(). Unreadable, with why, is a source whose file is missing or
// empty, unless meta.json says that it is unused; one whose file cannot be parsed, or is of another source than its
// name; and one that meta.json or another file contradicts (dump_checks.hpp). What such a file says counts all the
// same, unless it was not understood. None of that is a failure. Error: no such folder, none of these files in it, or
// a broken meta.json.
Result<NodeStatePtr> read_dump(const std::string& folder);

}  // namespace hptrace
