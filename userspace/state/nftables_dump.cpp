// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/nftables_dump.hpp"

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <optional>

namespace hptrace {
namespace {

Request request_for(unsigned message, std::uint16_t flags, int family) {
    Request request(nfnl_type(NFNL_SUBSYS_NFTABLES, message), flags);
    auto& header = request.family_header<nfgenmsg>();
    header.nfgen_family = static_cast<std::uint8_t>(family);
    header.version = NFNETLINK_V0;
    return request;
}

}  // namespace

Result<NftDump> NftDump::open() {
    auto socket = NetlinkSocket::open(NETLINK_NETFILTER, "nf_tables");
    if (!socket) {
        return std::unexpected(socket.error());
    }
    return NftDump(*std::move(socket));
}

Result<std::uint32_t> NftDump::generation() {
    Request request = request_for(NFT_MSG_GETGEN, 0, NFPROTO_UNSPEC);
    std::optional<std::uint32_t> generation;
    const auto done = socket_.exchange(request, [&generation](const Message& message) -> Result<void> {
        generation = parse_nft_generation(message);
        return {};
    });
    if (!done) {
        return std::unexpected(done.error());
    }
    if (!generation) {
        return failure("nf_tables: the kernel does not tell its generation");
    }
    return *generation;
}

Result<void> NftDump::tables(const MessageHandler& handle) {
    Request request = request_for(NFT_MSG_GETTABLE, NLM_F_DUMP, NFPROTO_UNSPEC);
    return socket_.exchange(request, handle);
}

Result<void> NftDump::chains(const MessageHandler& handle) {
    Request request = request_for(NFT_MSG_GETCHAIN, NLM_F_DUMP, NFPROTO_UNSPEC);
    return socket_.exchange(request, handle);
}

Result<void> NftDump::sets(const NftTableKey& table, const MessageHandler& handle) {
    Request request = request_for(NFT_MSG_GETSET, NLM_F_DUMP, table.first);
    mnl_attr_put_strz(request.header(), NFTA_SET_TABLE, table.second.c_str());
    return socket_.exchange(request, handle);
}

Result<void> NftDump::elements(const NftTableKey& table, const std::string& set, const MessageHandler& handle) {
    Request request = request_for(NFT_MSG_GETSETELEM, NLM_F_DUMP, table.first);
    mnl_attr_put_strz(request.header(), NFTA_SET_ELEM_LIST_TABLE, table.second.c_str());
    mnl_attr_put_strz(request.header(), NFTA_SET_ELEM_LIST_SET, set.c_str());
    return socket_.exchange(request, handle);
}

Result<void> NftDump::rules(const NftTableKey& table, const std::string& chain, const MessageHandler& handle) {
    Request request = request_for(NFT_MSG_GETRULE, NLM_F_DUMP, table.first);
    mnl_attr_put_strz(request.header(), NFTA_RULE_TABLE, table.second.c_str());
    mnl_attr_put_strz(request.header(), NFTA_RULE_CHAIN, chain.c_str());
    return socket_.exchange(request, handle);
}

}  // namespace hptrace
