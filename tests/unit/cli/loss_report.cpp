// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/loss_report.hpp"

#include <fcntl.h>

#include <catch2/catch_test_macros.hpp>
#include <chrono>

#include "base/fd.hpp"

using namespace hptrace;

TEST_CASE("the kernel is asked for losses when they are told, not at every turn") {
    const TraceOptions options;
    const NodeState state;
    const Fd nowhere(::open("/dev/null", O_WRONLY | O_CLOEXEC));
    const auto out = QueuedWriter::start(nowhere.get(), 1 << 20).value();
    TraceOutputs outputs(options, state, nullptr, *out);
    LossReport report;
    int asked = 0;
    const auto ask = [&asked] {
        ++asked;
        return CaptureCounters{};
    };
    const auto begun = std::chrono::steady_clock::now();
    for (int turn = 0; turn < 1000; ++turn) {
        report.tell(ask, 0, outputs, false);
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
    CHECK(asked <= 1 + static_cast<int>(took.count()));
    // The last time nothing may be left out.
    const auto before = asked;
    report.tell(ask, 0, outputs, true);
    CHECK(asked == before + 1);
}
