// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "capture/capture.hpp"

namespace hptrace {

// Says what is not traced, and what that means; each thing once.
class ProbeReport {
public:
    using Note = std::function<void(std::string_view)>;  // says it

    // Is everything traced that rewrites anything now?
    [[nodiscard]] bool say(const Capture& capture, const Note& note);

private:
    [[nodiscard]] bool say(const Capture& capture, const ProbeStatus& probe, const Note& note);

    std::set<std::pair<std::string, bool>> said_;  // subsystem, whether it was there
    bool said_of_missed_ = false;
};

}  // namespace hptrace
