// SPDX-License-Identifier: GPL-2.0-or-later
#include "capture/records.hpp"

#include <arpa/inet.h>

#include <cstring>
#include <string_view>

#include "hptrace/record.h"

namespace hptrace {

namespace {

std::optional<Observation::Kind> kind_of(std::uint16_t type) {
    switch (type) {
        case HPTRACE_RECORD_DECISION:
            return Observation::Kind::decision;
        case HPTRACE_RECORD_COMMIT:
            return Observation::Kind::commit;
        case HPTRACE_RECORD_CLASH:
            return Observation::Kind::clash;
        default:
            return std::nullopt;
    }
}

Endpoint to_endpoint(Family family, const hptrace_end& end) {
    return {.ip = make_address(family, end.ip), .port = ntohs(end.port)};
}

}  // namespace

std::optional<Observation> decode(std::span<const std::byte> bytes) {
    hptrace_decision record{};
    if (bytes.size() < sizeof(record)) {
        return std::nullopt;
    }
    std::memcpy(&record, bytes.data(), sizeof(record));

    const auto family = family_from_af(record.family);
    const auto protocol = protocol_from_number(record.l4proto);
    const auto kind = kind_of(record.header.type);
    const bool known_mechanism =
        record.mechanism == HPTRACE_MECHANISM_NF_NAT || record.mechanism == HPTRACE_MECHANISM_IP_VS;
    if (record.header.size != sizeof(record) || !kind || !known_mechanism || !family || !protocol) {
        return std::nullopt;
    }

    Observation out;
    out.kind = *kind;
    out.ct = record.ct;
    auto& connection = out.connection;
    connection.mechanism = record.mechanism == HPTRACE_MECHANISM_IP_VS ? Mechanism::ip_vs : Mechanism::nf_nat;
    connection.protocol = *protocol;
    connection.netns = record.header.netns;
    connection.zone = record.zone;
    connection.boot_ns = record.header.boot_ns;
    connection.client = to_endpoint(*family, record.client);
    connection.original = to_endpoint(*family, record.original);
    connection.rewritten = to_endpoint(*family, record.rewritten);
    connection.changes = record.header.changes;
    if ((record.valid & HPTRACE_VALID_REPLY) != 0) {
        connection.reply_destination = to_endpoint(*family, record.reply_dst);
    }
    if ((record.valid & HPTRACE_VALID_RULE) != 0) {
        connection.rule = record.rule_ptr;
    }
    if ((record.valid & HPTRACE_VALID_COMMITTED) != 0) {
        connection.committed = true;
    }
    if ((record.valid & HPTRACE_VALID_PID) != 0) {
        const auto* comm = static_cast<const char*>(record.comm);
        connection.process = Process{.pid = record.pid, .comm = {comm, strnlen(comm, sizeof(record.comm))}};
    }
    return out;
}

}  // namespace hptrace
