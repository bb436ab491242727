// SPDX-License-Identifier: GPL-2.0-or-later
// A rule with an expression that this program does not know, as a newer nft would write it.
#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <array>
#include <catch2/catch_test_macros.hpp>
#include <memory>

#include "rules.hpp"

using namespace hptrace;

namespace {

nlmsghdr* put_message(mnl_nlmsg_batch* batch, std::uint16_t type, std::uint16_t flags, std::uint8_t family,
                      std::uint16_t resource) {
    static std::uint32_t sequence = 0;  // NOLINT: of this test's only batch
    nlmsghdr* message = mnl_nlmsg_put_header(mnl_nlmsg_batch_current(batch));
    message->nlmsg_type = type;
    message->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
    message->nlmsg_seq = ++sequence;
    auto* header = static_cast<nfgenmsg*>(mnl_nlmsg_put_extra_header(message, sizeof(nfgenmsg)));
    header->nfgen_family = family;
    header->version = NFNETLINK_V0;
    header->res_id = htons(resource);
    return message;
}

// Appends the "inner" expression (tunnelled headers, Linux 6.2): inner VXLAN, then meta l4proto.
void put_rule_with_inner(nlmsghdr* message) {
    mnl_attr_put_strz(message, NFTA_RULE_TABLE, "t");
    mnl_attr_put_strz(message, NFTA_RULE_CHAIN, "c");
    nlattr* expressions = mnl_attr_nest_start(message, NFTA_RULE_EXPRESSIONS);
    nlattr* element = mnl_attr_nest_start(message, NFTA_LIST_ELEM);
    mnl_attr_put_strz(message, NFTA_EXPR_NAME, "inner");
    nlattr* data = mnl_attr_nest_start(message, NFTA_EXPR_DATA);
    constexpr std::array<std::uint32_t, 4> fields{0 /* NUM */, 1 /* TYPE: VXLAN */, 0xf /* FLAGS */, 8 /* HDRSIZE */};
    for (std::size_t i = 0; i < fields.size(); ++i) {
        mnl_attr_put_u32(message, static_cast<std::uint16_t>(i + 1), htonl(fields.at(i)));
    }
    nlattr* inner = mnl_attr_nest_start(message, 5 /* NFTA_INNER_EXPR */);
    mnl_attr_put_strz(message, NFTA_EXPR_NAME, "meta");
    nlattr* meta = mnl_attr_nest_start(message, NFTA_EXPR_DATA);
    mnl_attr_put_u32(message, NFTA_META_KEY, htonl(NFT_META_L4PROTO));
    mnl_attr_put_u32(message, NFTA_META_DREG, htonl(NFT_REG_1));
    for (nlattr* nest : {meta, inner, data, element, expressions}) {
        mnl_attr_nest_end(message, nest);
    }
}

void add_rule_with_inner() {
    std::array<char, 8192> buffer{};
    const std::unique_ptr<mnl_socket, decltype([](mnl_socket* s) { mnl_socket_close(s); })> socket(
        mnl_socket_open(NETLINK_NETFILTER));
    const std::unique_ptr<mnl_nlmsg_batch, decltype([](mnl_nlmsg_batch* b) { mnl_nlmsg_batch_stop(b); })> batch(
        mnl_nlmsg_batch_start(buffer.data(), buffer.size() / 2));
    put_message(batch.get(), NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
    mnl_nlmsg_batch_next(batch.get());
    put_rule_with_inner(put_message(batch.get(), (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_NEWRULE,
                                    NLM_F_CREATE | NLM_F_APPEND | NLM_F_ACK, NFPROTO_IPV4, 0));
    mnl_nlmsg_batch_next(batch.get());
    put_message(batch.get(), NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
    mnl_nlmsg_batch_next(batch.get());
    if (!socket || mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) < 0 ||
        mnl_socket_sendto(socket.get(), mnl_nlmsg_batch_head(batch.get()), mnl_nlmsg_batch_size(batch.get())) < 0) {
        throw std::runtime_error("cannot send the rule");
    }
    const auto received = mnl_socket_recvfrom(socket.get(), buffer.data(), buffer.size());
    if (received < 0 || mnl_cb_run(buffer.data(), static_cast<std::size_t>(received), 0,
                                   mnl_socket_get_portid(socket.get()), nullptr, nullptr) < 0) {
        throw std::runtime_error("the kernel refuses the rule");
    }
}

}  // namespace

TEST_CASE("a rule with an unknown expression is kept as unread, and the rest is read") {
    const auto tables = in_fresh_netns([] {
        feed("nft -f -",
             "table ip t {\n chain c {\n type nat hook prerouting priority -100;\n tcp dport 80 accept\n }\n}\n");
        add_rule_with_inner();
        run("nft add rule ip t c tcp dport 81 accept");
        return value_of(read_nf_tables());
    });
    REQUIRE(tables.size() == 1);
    const Chain* chain = tables.front().find_chain("c");
    REQUIRE(chain != nullptr);
    REQUIRE(chain->rules.size() == 3);
    CHECK(chain->rules[0].unread.empty());
    CHECK_FALSE(chain->rules[1].unread.empty());
    CHECK(chain->rules[1].handle.value_or(0) > chain->rules[0].handle.value_or(0));
    CHECK(chain->rules[2].unread.empty());
}
