// SPDX-License-Identifier: GPL-2.0-or-later
#include <cstdio>
#include <exception>

#include "cli/run.hpp"

int main(int argc, char** argv) {
    // Expected failures travel as values: what arrives here is out of memory, or a bug.
    try {
        return hptrace::run({argv + 1, argv + argc});
    } catch (const std::exception& error) {
        static_cast<void>(std::fprintf(stderr, "hptrace: unexpected: %s\n", error.what()));
        return 1;
    }
}
