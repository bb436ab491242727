// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "base/error.hpp"
#include "base/fd.hpp"

namespace hptrace {

// Listens to what rtnetlink announces of the local routing table, in the network namespace of the thread that opens it.
class AddressWatch {
public:
    // `receive_buffer`: bytes, 0 leaves what the system gives.
    static Result<AddressWatch> open(int receive_buffer = 0);

    // Has the local table changed since the last call, or could it have: were announcements lost (ENOBUFS)? Never
    // waits. Open before the first read, call before each one: nothing can slip in between.
    bool changed();

private:
    explicit AddressWatch(Fd socket) : socket_(std::move(socket)) {}

    Fd socket_;
};

}  // namespace hptrace
