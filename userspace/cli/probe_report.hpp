// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <set>
#include <string>
#include <utility>

#include "capture/capture.hpp"

namespace hptrace {

// Says on stderr what is not traced, and what that means; each thing once.
class ProbeReport {
public:
    // Is everything traced that rewrites anything now?
    [[nodiscard]] bool say(const Capture& capture);

private:
    [[nodiscard]] bool say(const Capture& capture, const ProbeStatus& probe);

    std::set<std::pair<std::string, bool>> said_;  // subsystem, whether it was there
    bool said_of_missed_ = false;
};

}  // namespace hptrace
