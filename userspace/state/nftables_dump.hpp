// SPDX-License-Identifier: GPL-2.0-or-later
// What nf_tables of the calling thread's network namespace can be asked for.
#pragma once

#include <cstdint>
#include <string>

#include "state/netlink.hpp"
#include "state/nftables_message.hpp"

namespace hptrace {

// A socket for requests to nf_tables, which must be present: the socket alone would load nfnetlink, the first request
// nf_tables. After an error it must not be used any more. A dump fails with EINTR if the ruleset changed between two of
// its messages (NLM_F_DUMP_INTR), with ENOENT if what it is of does not exist.
//
// A dump begins at the first rule, chain or set of what it is of for each of its messages and skips those that were
// sent: one of all rules of a ruleset takes time in their number's square, one of each chain in their number.
class NftDump {
public:
    static Result<NftDump> open();

    // The ruleset's generation. It is told from the moment a commit can no longer fail, which is shortly before what it
    // changes is visible (nf_tables_commit: base_seq, then gencursor).
    Result<std::uint32_t> generation();
    // Of all families.
    Result<void> tables(const MessageHandler& handle);
    Result<void> chains(const MessageHandler& handle);
    // Without their elements. Kernels that do not filter tell of those of other tables too.
    Result<void> sets(const NftTableKey& table, const MessageHandler& handle);
    Result<void> elements(const NftTableKey& table, const std::string& set, const MessageHandler& handle);
    // A chain that does not exist has none. The same of kernels that do not filter.
    Result<void> rules(const NftTableKey& table, const std::string& chain, const MessageHandler& handle);

private:
    explicit NftDump(NetlinkSocket socket) : socket_(std::move(socket)) {}

    NetlinkSocket socket_;
};

}  // namespace hptrace
