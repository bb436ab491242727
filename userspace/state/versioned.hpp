// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "base/error.hpp"

namespace hptrace {

// What a source holds, with a number that differs whenever that differs: a generation, or a fingerprint of it.
template <class T>
struct Versioned {
    std::uint64_t version = 0;
    T content;
};

// Nothing: the source still has the version that was known.
template <class T>
using ReadIfNew = Result<std::optional<Versioned<T>>>;

}  // namespace hptrace
