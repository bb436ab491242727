// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "capture/connection.hpp"

namespace hptrace {

// A record of the ring buffer, decoded.
struct Observation {
    // clash: an entry whose connection conntrack has already; it gets freed, or serves its own packet only.
    enum class Kind : std::uint8_t { decision, commit, clash };

    Kind kind = Kind::decision;
    std::uint64_t ct = 0;   // address of the conntrack entry while it lives; 0 for ip_vs
    Connection connection;  // of a commit: the final tuples; its rule is absent
};

// Nothing if the bytes are no record of this version of include/hptrace/record.h.
std::optional<Observation> decode(std::span<const std::byte> bytes);

}  // namespace hptrace
