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

// However large the cluster is, or claims to be, no more is kept. Kubernetes is tested up to 150,000 pods, 10,000
// Services, and 110 pods of a node.
inline constexpr std::size_t most_names = 500'000;            // pairs of address and port in one table
inline constexpr std::size_t most_names_per_object = 10'000;  // of those, from one object
inline constexpr std::size_t most_node_pods = 5'000;

// Names by address, port and protocol. Add everything, finish(), then only find().
template <class Name>
class NameTable {
public:
    // A table that has most_names already leaves it out.
    void add(const Endpoint& end, Protocol protocol, const Name& name);
    void leave_out(std::size_t count) { left_out_ += count; }
    // Makes it searchable, and drops what has two names.
    void finish();
    // Null: nothing, or not one thing, has it.
    [[nodiscard]] const Name* find(const Endpoint& end, Protocol protocol) const;
    [[nodiscard]] std::size_t size() const { return entries_.size(); }
    // Names that there was no place for.
    [[nodiscard]] std::size_t left_out() const { return left_out_; }

private:
    struct Entry {
        Endpoint end;
        Protocol protocol = Protocol::tcp;
        std::uint32_t name = 0;

        [[nodiscard]] auto key() const { return std::pair(end, protocol); }
    };

    std::vector<Name> names_;
    std::vector<Entry> entries_;
    std::size_t left_out_ = 0;
    // Only until finish(): an endpoint is in the slices of many Services. By a hash of the name.
    std::unordered_multimap<std::size_t, std::uint32_t> known_;
};

// Services by each of their addresses, and by the ports they have on every node.
class ServiceNames {
public:
    void add(const Endpoint& destination, Protocol protocol, const ServiceName& name);
    void add_node_port(std::uint16_t port, Protocol protocol, const ServiceName& name);
    void leave_out(std::size_t count) { addresses_.leave_out(count); }
    void finish();
    // Null: no Service has this destination.
    [[nodiscard]] const ServiceName* find(const Service& service) const;
    [[nodiscard]] std::size_t size() const { return addresses_.size() + node_ports_.size(); }
    [[nodiscard]] std::size_t left_out() const { return addresses_.left_out() + node_ports_.left_out(); }

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

    // Beyond most_node_pods it is left out.
    void add(Entry pod);
    void leave_out(std::size_t count) { left_out_ += count; }
    // An address belongs to the newest pod that has it and is not ending.
    void finish();
    // Null: none of this node has this address.
    [[nodiscard]] const Pod* find(const Address& ip) const;
    // Whose hostPort the rule is: the pod it leads to, if that wants this hostPort; else null.
    [[nodiscard]] const Pod* find_owner(const HostPortRule& rule) const;
    [[nodiscard]] std::size_t size() const { return pods_.size(); }
    [[nodiscard]] std::size_t left_out() const { return left_out_; }

private:
    [[nodiscard]] const Entry* entry_of(const Address& ip) const;

    std::vector<Entry> pods_;
    std::size_t left_out_ = 0;
    std::unordered_map<Address, std::size_t> by_ip_;
};

// An immutable snapshot of them.
struct ClusterNames {
    ServiceNames services;
    NameTable<Pod> endpoints;  // pods of every node, by what they serve as endpoints of Services
    NodePods pods;
    std::size_t skipped = 0;   // objects that were not understood
    std::size_t left_out = 0;  // names that were too many
};

using ClusterNamesPtr = std::shared_ptr<const ClusterNames>;
// What is known of the cluster now: null: nothing. An empty function: the API is not asked.
using ClusterNamesSource = std::function<ClusterNamesPtr()>;

}  // namespace hptrace
