// SPDX-License-Identifier: GPL-2.0-or-later
// A place to write to, and findings worth writing.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <catch2/catch_test_macros.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "judge/node.hpp"
#include "names/names.hpp"
#include "output/output.hpp"

namespace hptrace::test {

// Collects what a Writer writes.
class Paper {
public:
    Paper() : fd_(::memfd_create("output", MFD_CLOEXEC)) { REQUIRE(fd_); }

    [[nodiscard]] int fd() const { return fd_.get(); }

    [[nodiscard]] std::string text() const {
        std::string all;
        std::array<char, 4096> part{};
        ssize_t count = 0;
        while ((count = ::pread(fd_.get(), part.data(), part.size(), static_cast<off_t>(all.size()))) > 0) {
            all.append(part.data(), static_cast<std::size_t>(count));
        }
        return all;
    }

    [[nodiscard]] std::vector<std::string> lines() const {
        std::vector<std::string> result;
        std::istringstream stream(text());
        for (std::string line; std::getline(stream, line);) {
            result.push_back(line);
        }
        return result;
    }

private:
    Fd fd_;
};

inline Finding finding(const Connection& made, NodeState state) {
    state.index();
    auto result = judge(made, state);
    add_names(result, state);
    return result;
}

inline Finding hijack() {
    return finding(connection("10.96.0.10:3306", "10.224.0.222:3306"), ipvs_node(Backend::iptables_nft));
}

inline Conflict conflict(NodeState state) {
    state.index();
    auto found = find_conflicts(state, {}).conflicts;
    REQUIRE_FALSE(found.empty());
    add_names(found.front(), state);
    return found.front();
}

// 2026-01-31T10:00:00Z, so that a record of boot time 0 happened then.
inline std::int64_t fixed_offset() {
    return 1769853600'000000000;
}

}  // namespace hptrace::test
