// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "base/error.hpp"
#include "capture/connection.hpp"

namespace hptrace {

// Goes through the connections that conntrack knows in one namespace, a piece at a time: there can be millions. Takes
// the same memory however many there are.
class ConntrackDump {
public:
    // Of the calling thread's namespace; where the dump is continued does not matter. By ctnetlink if
    // nf_conntrack_netlink is present, else by /proc/thread-self/net/nf_conntrack. No conntrack at all: a dump of
    // nothing.
    static Result<ConntrackDump> begin();

    // Those of the next entries whose destination was rewritten: nf_nat ones by IPS_DST_NAT, ip_vs ones
    // (net.ipv4.vs.conntrack=1) by a changed reply tuple without it. Connection::boot_ns is when they were read.
    // Nothing: that was all. After an error the dump is over. An entry can come twice if the table is resized
    // meanwhile (ctnetlink_dump_table).
    Result<std::optional<std::vector<Connection>>> next();

    // About as many entries are looked at by one next().
    static constexpr std::size_t piece = 4096;

    // Pieces of the text of /proc or of the messages of ctnetlink.
    class Source {
    public:
        Source() = default;
        Source(const Source&) = delete;
        Source(Source&&) = delete;
        Source& operator=(const Source&) = delete;
        Source& operator=(Source&&) = delete;
        virtual ~Source() = default;
        virtual Result<std::optional<std::vector<Connection>>> next() = 0;
    };

private:
    ConntrackDump(std::unique_ptr<Source> source, std::uint32_t netns) : source_(std::move(source)), netns_(netns) {}

    std::unique_ptr<Source> source_;  // null: there is nothing
    std::uint32_t netns_;
};

}  // namespace hptrace
