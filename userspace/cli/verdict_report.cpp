// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/verdict_report.hpp"

#include <algorithm>

namespace hptrace {

void VerdictReport::show(const Finding& finding) {
    ++counts_.at(static_cast<std::size_t>(finding.verdict));
    outputs_.tell(&Output::judged, finding);
    if (options_.accepted.covers(finding)) {
        ++suppressed_;
        return;
    }
    alarmed_ = alarmed_ || is_alarm(finding.verdict);
    if (options_.only.empty() || std::ranges::find(options_.only, finding.verdict) != options_.only.end()) {
        outputs_.tell(&Output::connection, finding);
        ++shown_;
    }
}

}  // namespace hptrace
