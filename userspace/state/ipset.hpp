// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/address.hpp"
#include "base/error.hpp"
#include "state/netlink.hpp"

namespace hptrace {

// One member, as far as its set's type has these dimensions.
struct SetMember {
    std::optional<Address> ip;
    std::optional<std::uint16_t> port;
    std::optional<std::uint8_t> protocol;  // IPPROTO_*

    auto operator<=>(const SetMember&) const = default;
};

struct IpSet {
    std::string name;
    std::string type;  // "hash:ip,port", "bitmap:port", ...
    std::vector<SetMember> members;

    [[nodiscard]] bool contains(const SetMember& member) const;
};

// `member` with no more than the dimensions the set's type has ("bitmap:port": the port alone).
SetMember as_in(const IpSet& set, SetMember member);

// Questions about the ipsets of the calling thread's network namespace that leave no trace: IPSET_CMD_HEADER and
// IPSET_CMD_TEST of net/netfilter/ipset/ip_set_core.c. A set is never listed (IPSET_CMD_LIST, also of names alone): the
// kernel holds a reference to each while it does (ref_netlink), and whoever swaps it with another one meanwhile, as
// kube-router's network policies do all the time, fails with EBUSY.
class KernelSets {
public:
    // Only where ip_set and nfnetlink are present: it loads them. Errors: EPERM.
    static Result<KernelSets> open();

    // Those of the sets with these names that exist, without members.
    Result<std::vector<IpSet>> existing(const std::vector<std::string>& names);
    // Which of `members` are in the set: an answer for each of them, in their order. Of a type other than bitmap:port
    // and hash:ip,port none are. A set that is gone has none.
    Result<std::vector<bool>> test(const IpSet& set, const std::vector<SetMember>& members);

private:
    KernelSets(NetlinkSocket socket, std::uint8_t protocol) : socket_(std::move(socket)), protocol_(protocol) {}

    NetlinkSocket socket_;
    std::uint8_t protocol_;
};

}  // namespace hptrace
