// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>

namespace hptrace {

// How much of one namespace is read; beyond it reading fails with EFBIG. The owner of a namespace decides what is in
// it, and decoded a rule takes some 700 bytes.
struct NftLimits {
    std::size_t objects = 0;  // chains, rules and elements together
    std::size_t bytes = 0;    // of the messages of one reading
};

// A node's own ruleset: a hundred thousand Services fit in. 2,000,000 rules take some 1.4 GB.
inline constexpr NftLimits own_nft_limits{.objects = 2'000'000, .bytes = std::size_t{2} << 30U};
// That of a namespace whose owner is not the node's. 100,000 rules take some 70 MB.
inline constexpr NftLimits foreign_nft_limits{.objects = 100'000, .bytes = std::size_t{64} << 20U};

}  // namespace hptrace
