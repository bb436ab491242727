// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/last_steps.hpp"

namespace hptrace {

bool LastSteps::take(std::chrono::nanoseconds longest) const {
    const auto end = now() + longest;
    for (;;) {
        const auto left = step();
        if (left == Left::nothing) {
            return true;
        }
        if (left == Left::waiting) {
            wait();
        }
        const auto stop = stopped();
        if (now() >= (stop ? *stop + patience_after_stop : end)) {
            return false;
        }
    }
}

}  // namespace hptrace
