// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/work.hpp"
#include "state/node_state.hpp"

namespace hptrace {

// The HostPort rules of a state by what they ask of a destination, so that a Service is compared with those alone that
// may take it.
class RuleIndex {
public:
    // Both must outlive it. `work`: a unit for each comparison.
    RuleIndex(const NodeState& state, Work& work);

    // Rules that take some packets to the Service, by back end, in the order packets meet them; of those that want the
    // very same packets the first alone. Nothing: there is not enough work left.
    [[nodiscard]] std::optional<std::vector<const HostPortRule*>> find(const Service& service) const;

private:
    using Rules = std::vector<const HostPortRule*>;
    // Whatever is the same in all packets that two rules want.
    struct SamePackets {
        Rules rules;
        // What else tells apart those that ask for nothing more: back end, and where they are met by which packets.
        std::set<std::tuple<Backend, bool, bool, bool, bool>> complete;
    };
    // By the network of hostIP (none: the whole), and whether an address that is not local is out of the question.
    using Network = std::tuple<std::uint8_t, Address, bool>;  // length, address without host bits
    struct Ports {
        std::map<Network, SamePackets> by_network;
        std::set<std::uint8_t> lengths;
    };

    void add(const HostPortRule& rule);
    bool collect(const Service& service, const Ports& ports, Rules& rules) const;
    // Nothing: there is not enough work left.
    [[nodiscard]] std::optional<bool> takes_some(const Service& service, const HostPortRule& rule) const;

    // Addresses that a Service on any local address has.
    struct NodeAddresses {
        std::vector<Address> all;
        std::unordered_set<Address> set;
    };
    [[nodiscard]] const NodeAddresses& node_addresses(const Service& service) const {
        return node_addresses_.at(service.family == Family::ipv4 ? 0 : 1).at(service.on_loopback ? 1 : 0);
    }

    const NodeState& state_;
    Work& work_;
    std::map<std::tuple<Family, Protocol, std::uint16_t>, Ports> by_port_;
    std::map<std::tuple<Family, Protocol>, std::map<PortRange, Ports>> by_range_;  // of more than one port
    std::array<std::array<NodeAddresses, 2>, 2> node_addresses_;                   // IPv4 and IPv6; with loopback
};

}  // namespace hptrace
