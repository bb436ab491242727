// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/address.hpp"
#include "base/error.hpp"
#include "capture/connection.hpp"
#include "hptrace/record.h"

namespace hptrace {

// Which connections the user asked for. An empty member restricts nothing.
struct Filter {
    std::uint32_t netns = 0;       // inode number, 0: every namespace
    std::vector<PortRange> ports;  // original destination port
    std::vector<Protocol> protocols;
    std::optional<Prefix> dest;    // original or rewritten destination
    std::optional<Prefix> source;  // client
    std::optional<Family> family;
};

// The same test as matches_filter() in bpf/filter.bpf.h, for connections that did not come through BPF.
bool matches(const Filter& filter, const Connection& connection);

// The filter as the BPF programs' rodata wants it.
// Fails when there are more port ranges or protocols than the record format has room for.
Result<hptrace_filter> to_record(const Filter& filter);

}  // namespace hptrace
