// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string_view>

#include "base/error.hpp"
#include "state/node_state.hpp"

namespace hptrace {

// How much of a file is looked at. What a pod can put into one are its annotations: 256 KiB of them, each character
// escaped in up to six (kubernetes, pkg/apis/core/validation: TotalAnnotationSizeLimitB).
inline constexpr std::size_t most_of_cni_result = 4UL * 1024 * 1024;

enum class CutOff : bool { no, yes };

// One file of libcni's cache: kind cniCacheV1, or the bare result it wrote before 0.8. `file_name`
// ("<network>-<container>-<if>") says what the content does not. Loopback addresses are left out, and texts longer than
// any name is. Of a file that was cut off counts what is there: the addresses are at its end.
// Error: not such a file.
Result<Sandbox> parse_cni_result(std::string_view json, std::string_view file_name, CutOff cut_off = CutOff::no);

}  // namespace hptrace
