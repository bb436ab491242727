// SPDX-License-Identifier: GPL-2.0-or-later
#include "capture/filter.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

namespace hptrace {

namespace {

hptrace_prefix to_record(const Prefix& prefix) {
    hptrace_prefix out{};
    out.family = static_cast<__u8>(to_af(prefix.address.family));
    for (std::size_t bit = 0; bit < prefix.length; ++bit) {
        out.mask[bit / 8] = static_cast<__u8>(out.mask[bit / 8] | (0x80U >> (bit % 8)));
    }
    for (std::size_t i = 0; i < sizeof(out.ip); ++i) {
        out.ip[i] = static_cast<__u8>(prefix.address.bytes[i] & out.mask[i]);
    }
    return out;
}

}  // namespace

bool matches(const Filter& filter, const Connection& connection) {
    const auto port_in = [&](const PortRange& range) { return range.contains(connection.original.port); };
    return (filter.netns == 0 || filter.netns == connection.netns) &&
           (!filter.family || *filter.family == connection.original.ip.family) &&
           (filter.ports.empty() || std::ranges::any_of(filter.ports, port_in)) &&
           (filter.protocols.empty() ||
            std::ranges::find(filter.protocols, connection.protocol) != filter.protocols.end()) &&
           (!filter.source || filter.source->contains(connection.client.ip)) &&
           (!filter.dest || filter.dest->contains(connection.original.ip) ||
            filter.dest->contains(connection.rewritten.ip));
}

Result<hptrace_filter> to_record(const Filter& filter) {
    hptrace_filter out{};
    if (filter.ports.size() > std::size(out.ports)) {
        return failure(fmt::format("{} ports or port ranges, and at most {} are possible", filter.ports.size(),
                                   std::size(out.ports)),
                       "join neighbours into ranges");
    }
    if (filter.protocols.size() > std::size(out.protos)) {
        return failure(
            fmt::format("{} protocols, and at most {} are possible", filter.protocols.size(), std::size(out.protos)));
    }
    out.netns = filter.netns;
    for (const auto& range : filter.ports) {
        out.ports[out.port_count++] = {.first = range.first, .last = range.last};
    }
    for (const auto protocol : filter.protocols) {
        out.protos[out.proto_count++] = static_cast<__u8>(protocol);
    }
    if (filter.dest) {
        out.dest = to_record(*filter.dest);
    }
    if (filter.source) {
        out.source = to_record(*filter.source);
    }
    if (filter.family) {
        out.family = static_cast<__u8>(to_af(*filter.family));
    }
    return out;
}

}  // namespace hptrace
