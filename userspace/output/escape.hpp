// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>
#include <string_view>

namespace hptrace {

// Text of rule comments and names made harmless for a terminal: every byte that is not printable ASCII becomes \xNN,
// so no control character is left, be it of C0, C1 or one that changes the direction of text. Called by what writes
// (Line, JournalEntry, labels of metrics), not by what makes up sentences.
std::string escape(std::string_view text);

}  // namespace hptrace
