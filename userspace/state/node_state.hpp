// SPDX-License-Identifier: GPL-2.0-or-later
// state/: who should answer on this node. A NodeState is read once, never changed, and shared.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/address.hpp"

namespace hptrace {

enum class Backend : std::uint8_t { iptables_legacy, iptables_nft, nftables };
std::string_view to_string(Backend backend);  // "iptables-legacy", "iptables-nft", "nftables"

// external_ip: in nftables mode also an address a load balancer gave out, unless it has source ranges: the rules do not
// tell them apart.
enum class ServiceKind : std::uint8_t { cluster_ip, external_ip, load_balancer, node_port, health_check_node_port };
// "ClusterIP", "ExternalIP", "LoadBalancer", "NodePort", "HealthCheckNodePort"
std::string_view to_string(ServiceKind kind);

// namespace/name and port name, from rule comments or chain names; ip_vs holds none.
struct ServiceName {
    std::string ns;
    std::string name;
    std::string port;  // empty: unnamed port

    auto operator<=>(const ServiceName&) const = default;
};

// Who serves it here.
enum class ServiceProxy : std::uint8_t { ipvs, iptables, nftables };

// One address:port/protocol that belongs to a Service on this node.
struct Service {
    ServiceKind kind = ServiceKind::cluster_ip;
    ServiceProxy proxy = ServiceProxy::iptables;
    Family family = Family::ipv4;
    std::optional<Address> ip;  // absent: any local address (NodePort of iptables mode)
    bool on_loopback = false;   // ip absent: loopback addresses are included
    std::uint16_t port = 0;
    Protocol protocol = Protocol::tcp;
    std::optional<ServiceName> name;
    std::vector<Endpoint> endpoints;  // sorted; every real server or DNAT target it may legitimately reach
    bool persistent = false;          // session affinity
    bool external_local = false;      // externalTrafficPolicy Local as far as the rules show it
    // external_local: clients from outside are answered by an endpoint here, or dropped. False: they are left to the
    // next nat rule. (Not ipvs mode.)
    bool handles_outside = false;
    // loadBalancerSourceRanges, if other clients are left to the next nat rule; empty: anyone is served or dropped.
    std::vector<Prefix> allowed_sources;
    std::optional<Backend> backend;  // where its rules are (iptables and nftables mode)
};

enum class Producer : std::uint8_t { portmap, crio, docker, netavark, unknown };
std::string_view to_string(Producer producer);  // "portmap", "crio", "docker", "netavark", "unknown"

// One DNAT rule of a HostPort-like producer.
struct HostPortRule {
    Producer producer = Producer::portmap;
    Backend backend = Backend::iptables_legacy;
    Family family = Family::ipv4;
    std::string table;                    // "nat", "cni_hostport"
    std::string chain;                    // the chain that holds the DNAT, e.g. CNI-DN-bd8e9ce301851b7745b41
    std::string entry_chain;              // the chain that leads to it, e.g. CNI-HOSTPORT-DNAT
    std::optional<std::uint64_t> handle;  // nf_tables rule handle
    std::uint32_t order = 0;  // position among all HostPort rules of this backend and family: the lowest match wins
    std::string map;          // nft: the map whose element it is (CRI-O); empty: it is the rule alone
    std::string text;         // the rule as iptables-save or nft would print it, for people
    Protocol protocol = Protocol::tcp;
    PortRange port;                        // host ports it takes
    std::optional<Prefix> host_ip;         // -d
    std::vector<Prefix> not_destinations;  // conditions: ! -d
    bool local_only = true;                // reached only for addresses of the local table (addrtype LOCAL, fib local)
    bool local_only_output = true;         // the same for traffic of the node itself
    bool in_prerouting = true;             // reached from PREROUTING; else only by traffic of the node itself
    bool in_output = true;                 // reached from OUTPUT
    bool conditional = false;              // other matches this program does not evaluate stand before it
    Endpoint target;                       // DNAT destination; port 0: unchanged
    std::string network;                   // CNI network name, from the entry comment
    std::string container_id;              // sandbox id, from the entry comment
};

// Where the two jumps of PREROUTING/OUTPUT stand in one base chain; -1: not there.
struct JumpOrder {
    int kube_services = -1;
    int hostport = -1;
};

// What one xtables back end's nat table shows of order, per family.
struct NatTable {
    Backend backend = Backend::iptables_legacy;
    Family family = Family::ipv4;
    JumpOrder prerouting;
    JumpOrder output;
    bool ipvs_accept = false;  // KUBE-SERVICES ACCEPTs ClusterIPs (kube-proxy ipvs mode, k/k#62718)
};

// What one container has that stands for a pod's network. From the libcni cache; what that lacks from host-local and
// kubelet (sandboxes.hpp).
struct Sandbox {
    std::string container_id;  // empty: only kubelet knows the pod
    std::string network;
    std::string pod_namespace;  // empty: not a Kubernetes pod
    std::string pod_name;
    std::string pod_uid;
    std::vector<Address> ips;
    std::int64_t since_ns = 0;  // when it was told that it has them, as files' times go
    // The name follows from a file that the pod itself can write to (kubelet_pods.hpp): it is for people, and must not
    // decide anything.
    bool named_by_itself = false;
};

struct LocalAddress {
    Prefix prefix;       // from the local routing table: usually a host prefix
    std::string device;  // "kube-ipvs0", "eth0", "lo", ...
};

enum class SourceState : std::uint8_t { unused, used, unreadable };
struct SourceStatus {
    SourceState state = SourceState::unused;
    std::string why;  // unreadable, or kept: one line
    // It cannot be read any more, and what was read before counts on: when that was (CLOCK_BOOTTIME, ns).
    std::optional<std::uint64_t> kept_from_ns{};
};

// A rule of a relevant chain that was not understood; shown once, makes what depends on it unknown.
struct UnreadRule {
    Backend backend = Backend::iptables_legacy;
    Family family = Family::ipv4;
    std::string chain;
    std::string text;
    // What was understood of it: it takes no packet of another protocol, or to a port outside all of these.
    std::optional<Protocol> protocol{};  // absent: any
    std::vector<PortRange> ports{};      // empty: any
};

// What is missing while a source cannot be read. What only names a thing never changes an answer.
enum class SourceRole : std::uint8_t {
    everything,  // the namespace itself
    rules,       // which rules rewrite; in iptables and nftables mode also who serves
    services,    // who serves in ipvs mode
    addresses,   // which addresses are local
    kinds,       // what kind of Service an address is
    owners,      // whose a rule is, and whether it is left over
    names,       // names of pods
};
bool decides(SourceRole role);  // Could it change who answers?

struct SourceRow {
    std::string_view name;  // in NodeState::sources
    SourceRole role;
    std::optional<Family> family;  // of what it tells; absent: both
};
// Of a source that is not in the list: one that may decide everything.
SourceRow source_row(std::string_view name);

enum class ProxyMode : std::uint8_t { none, iptables, ipvs, nftables, other_ipvs };
// "no kube-proxy rules", "kube-proxy iptables", "kube-proxy ipvs", "kube-proxy nftables", "ipvs without kube-proxy
// rules"
std::string_view to_string(ProxyMode mode);

// The source that stands for all others where the namespace itself could not be entered.
inline constexpr std::string_view netns_source = "network namespace";

// Every source there is. "addresses" is one of dumps, "host-local" and "kubelet" are of live nodes.
inline constexpr std::array<SourceRow, 11> source_rows{{
    {netns_source, SourceRole::everything, std::nullopt},
    {"iptables-legacy", SourceRole::rules, Family::ipv4},
    {"ip6tables-legacy", SourceRole::rules, Family::ipv6},
    {"nf_tables", SourceRole::rules, std::nullopt},
    {"ip_vs", SourceRole::services, std::nullopt},
    {"routes", SourceRole::addresses, std::nullopt},
    {"addresses", SourceRole::addresses, std::nullopt},
    {"ipset", SourceRole::kinds, std::nullopt},
    {"cni", SourceRole::owners, std::nullopt},
    {"host-local", SourceRole::names, std::nullopt},
    {"kubelet", SourceRole::names, std::nullopt},
}};

struct NodeState {
    std::string node;           // host name
    std::uint32_t netns = 0;    // inode number
    std::uint64_t boot_ns = 0;  // CLOCK_BOOTTIME when the reading that found it began
    std::int64_t real_ns = 0;   // CLOCK_REALTIME then, as files' times go; 0: not known (a dump)
    ProxyMode proxy = ProxyMode::none;
    std::vector<Service> services;
    std::uint32_t skipped_virtual_servers = 0;  // ip_vs: by firewall mark or for all ports of an address; not Services
    std::vector<HostPortRule> hostports;        // sorted by backend, family, order
    std::vector<NatTable> nat_tables;
    std::vector<LocalAddress> local_addresses;
    std::vector<Sandbox> sandboxes;   // of two with the same address the later one counts
    bool sandboxes_complete = false;  // the CNI cache exists and all of it was readable
    // Containers that were in the CNI cache and are not, while hptrace runs, and when they were first missed
    // (CLOCK_BOOTTIME).
    std::map<std::string, std::uint64_t, std::less<>> gone_sandboxes;
    std::vector<UnreadRule> unread_rules;
    // Those of source_rows. Only netns_source: the namespace could not be entered, nothing is known.
    std::map<std::string, SourceStatus> sources;

    // The Service this destination belongs to, exact address before "any local address"; null: none.
    // O(1): uses the index built by index().
    [[nodiscard]] const Service* find_service(const Endpoint& destination, Protocol protocol) const;
    // In the local routing table ("addrtype LOCAL"). Also O(1), but for the number of different prefix lengths there.
    [[nodiscard]] const LocalAddress* find_local(const Address& address) const;
    [[nodiscard]] const Sandbox* find_sandbox(std::string_view container_id) const;
    [[nodiscard]] const Sandbox* find_sandbox(const Address& ip) const;
    // Some container is known by its id.
    [[nodiscard]] bool knows_containers() const { return !sandbox_by_id_.empty(); }
    // Places in `hostports`, in its order, of the rules that lead to the address.
    [[nodiscard]] const std::vector<std::size_t>& hostports_to(const Address& target) const;
    // A Service has this address of its own.
    [[nodiscard]] bool is_service_address(const Address& address) const { return service_addresses_.contains(address); }
    [[nodiscard]] bool all_sources_read() const;
    // Must be called once, after filling and before sharing.
    void index();

private:
    void index_local_addresses();

    struct Key {
        Endpoint destination;
        Protocol protocol;
        bool operator==(const Key&) const = default;
    };
    struct KeyHash {
        std::size_t operator()(const Key& key) const noexcept;
    };
    std::unordered_map<Key, std::size_t, KeyHash> by_destination_;
    // Entries of local_addresses with a prefix of this length, by the network.
    struct LocalNetworks {
        std::uint8_t length = 0;
        std::unordered_map<Address, std::size_t> places;
    };

    std::unordered_set<Address> service_addresses_;
    std::unordered_map<Address, std::vector<std::size_t>> hostports_by_target_;
    std::unordered_map<Address, std::size_t> local_by_address_;
    std::vector<LocalNetworks> local_networks_;  // those that are no host prefixes (127.0.0.0/8), longest first
    std::map<std::string, std::size_t, std::less<>> sandbox_by_id_;
    std::unordered_map<Address, std::size_t> sandbox_by_ip_;
};

using NodeStatePtr = std::shared_ptr<const NodeState>;

// Does this rule match a packet to `destination` on this node (address part, port and protocol)?
// `from_node`: the packet comes from the node itself (OUTPUT), else it is forwarded (PREROUTING).
bool hostport_matches(const NodeState& state, const HostPortRule& rule, const Endpoint& destination, Protocol protocol,
                      bool from_node);

}  // namespace hptrace
