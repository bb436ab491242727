// SPDX-License-Identifier: GPL-2.0-or-later
// Names as the Kubernetes API has them, by what a connection shows: addresses, ports, protocols. Kept in sorted
// arrays: a cluster can have a hundred thousand endpoints. What two objects claim has no name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/address.hpp"
#include "judge/finding.hpp"
#include "state/node_state.hpp"

namespace hptrace {

// Names by address, port and protocol. Add everything, finish(), then only find().
template <class Name>
class NameTable {
public:
    void add(const Endpoint& end, Protocol protocol, const Name& name);
    // Makes it searchable, and drops what has two names.
    void finish();
    // Null: nothing, or not one thing, has it.
    [[nodiscard]] const Name* find(const Endpoint& end, Protocol protocol) const;
    [[nodiscard]] std::size_t size() const { return entries_.size(); }

private:
    struct Entry {
        Endpoint end;
        Protocol protocol = Protocol::tcp;
        std::uint32_t name = 0;

        [[nodiscard]] auto key() const { return std::pair(end, protocol); }
    };

    std::vector<Name> names_;
    std::vector<Entry> entries_;
    // Only until finish(): an endpoint is in the slices of many Services. By a hash of the name.
    std::unordered_multimap<std::size_t, std::uint32_t> known_;
};

// Services by each of their addresses, and by the ports they have on every node.
class ServiceNames {
public:
    void add(const Endpoint& destination, Protocol protocol, const ServiceName& name);
    void add_node_port(std::uint16_t port, Protocol protocol, const ServiceName& name);
    void finish();
    // Null: no Service has this destination.
    [[nodiscard]] const ServiceName* find(const Service& service) const;
    [[nodiscard]] std::size_t size() const { return addresses_.size() + node_ports_.size(); }

private:
    NameTable<ServiceName> addresses_;
    NameTable<ServiceName> node_ports_;  // under the unspecified address
};

// The pods of this node, without those that use its own addresses (hostNetwork).
class NodePods {
public:
    struct HostPort {
        std::uint16_t port = 0;
        Protocol protocol = Protocol::tcp;
    };
    struct Entry {
        Pod pod;
        std::vector<Address> ips;
        std::vector<HostPort> host_ports;
        bool terminating = false;
        std::string created;  // as the API writes it: sorts by time
    };

    void add(Entry pod);
    // An address belongs to the newest pod that has it and is not ending.
    void finish();
    // Null: none of this node has this address.
    [[nodiscard]] const Pod* find(const Address& ip) const;
    // Whose hostPort the rule is: the pod it leads to, if that wants this hostPort; else null.
    [[nodiscard]] const Pod* find_owner(const HostPortRule& rule) const;
    [[nodiscard]] std::size_t size() const { return pods_.size(); }

private:
    [[nodiscard]] const Entry* entry_of(const Address& ip) const;

    std::vector<Entry> pods_;
    std::unordered_map<Address, std::size_t> by_ip_;
};

// An immutable snapshot of them.
struct ClusterNames {
    ServiceNames services;
    NameTable<Pod> endpoints;  // pods of every node, by what they serve as endpoints of Services
    NodePods pods;
    std::size_t skipped = 0;  // objects that were not understood
};

using ClusterNamesPtr = std::shared_ptr<const ClusterNames>;
// What is known of the cluster now: null: nothing. An empty function: the API is not asked.
using ClusterNamesSource = std::function<ClusterNamesPtr()>;

}  // namespace hptrace
