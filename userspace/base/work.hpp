// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>

namespace hptrace {

// How much may be done about something whose size others decide: a loop that spends it ends, whatever they wrote.
class Work {
public:
    explicit Work(std::size_t units) : left_(units) {}

    // False: there is not so much left, nor anything from now on.
    [[nodiscard]] bool spend(std::size_t units) {
        if (units > left_) {
            left_ = 0;
            return false;
        }
        left_ -= units;
        return true;
    }

private:
    std::size_t left_;
};

}  // namespace hptrace
