// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "capture/connection.hpp"
#include "hptrace/record.h"
#include "state/node_state.hpp"
#include "state/rules_part.hpp"
#include "state/sources.hpp"

namespace hptrace {

// The change counters of the kernel side (bpf/change.bpf.c).
struct ChangeCounters {
    std::function<hptrace_changes(std::uint32_t netns)> now;  // of a namespace, by its inode number: Capture::changes
    std::function<std::uint32_t()> tracked{};  // bit per enum hptrace_source that can be relied on; none by default
    std::function<bool()> incomplete{};        // Capture::misses_changes
};

// One reading of the node. What it found of a source was so at some moment between `changes` and `changes_after`.
struct StateRead {
    NodeStatePtr state;               // that of the reading before if nothing is different
    hptrace_changes changes{};        // counters when it began
    hptrace_changes changes_after{};  // counters when it ended
    bool watched = false;             // every source in use announces its changes, to the counters or by itself
    std::uint64_t boot_ns = 0;        // CLOCK_BOOTTIME when it began

    // No change was under way from beginning to end: it is the state as it was at one moment.
    [[nodiscard]] bool consistent() const;
};

// Reads the state of one network namespace again and again, each time only what may have changed.
//
// It keeps, per source, what its content means, and when a reading has to ask the source again:
// - iptables-legacy, nf_tables and ip_vs: when their counter moved. What is found may well be the same.
// - local addresses: when rtnetlink announced a change.
// - what names pods: when files changed (PodSource).
// - ipset: always, it announces nothing. So do sources whose counter is not tracked, and what could not be read before.
// Names of ipsets in rules are those of when the rules were read.
// A source that is asked and has the version it had (NodeSources) is not interpreted again. If none has changed the
// state is the very same object. Rules are kept only as what they mean: the tables of thousands of Services are large.
class NodeReader {
public:
    // Of the network namespace the calling thread is in. All calls must be made by a thread that is in it.
    NodeReader(NodeSources sources, ChangeCounters counters);

    // Reads a few times more while the counters move, if that is quick; the result says whether it is consistent.
    // Sources that cannot be read are marked in NodeState::sources; that is not a failure.
    StateRead read();
    // Has a source that no counter counts announced a change since the last reading began? Cheap: nothing is read.
    [[nodiscard]] bool announced();

private:
    // What is known of a source.
    template <class T>
    struct Part {
        std::shared_ptr<const T> content = std::make_shared<const T>();
        SourceStatus status{};
        std::optional<std::uint64_t> version{};                            // none: not known, or not readable
        std::optional<std::pair<std::uint32_t, std::uint32_t>> counted{};  // its begin and end counters, equal
    };

    [[nodiscard]] hptrace_changes now() const;
    // Each returns whether something is different.
    bool update_all(const hptrace_changes& changes);
    template <class T, class Update>
    bool update_counted(Part<T>& part, hptrace_source source, const hptrace_changes& changes, Update update);
    // Of what was read of the other sources just now.
    [[nodiscard]] KubeSetQuestion set_question() const;
    [[nodiscard]] NodeStatePtr assemble(std::uint64_t boot_ns) const;

    NodeSources sources_;
    ChangeCounters counters_;
    std::string node_;
    std::uint32_t netns_;
    Part<RulesPart> legacy_ipv4_;
    Part<RulesPart> legacy_ipv6_;
    Part<RulesPart> nf_tables_;
    Part<std::vector<VirtualServer>> ip_vs_;
    Part<std::vector<IpSet>> ipset_;
    Part<std::vector<LocalAddress>> routes_;
    Pods pods_;
    bool routes_announced_ = true;  // a change, since they were read
    NodeStatePtr state_;
};

// Reads the state of a network namespace that hptrace is not in: enters it for each reading, by whatever leads there at
// that time, and keeps nothing of it open.
class NetnsVisitor {
public:
    // host_root: see node_root_of().
    NetnsVisitor(std::uint32_t inode, std::filesystem::path host_root, ChangeCounters counters)
        : inode_(inode), host_root_(std::move(host_root)), counters_(std::move(counters)) {}

    // As NodeReader::read(). A namespace that cannot be entered, because it is gone or for another reason, has a state
    // with the one source netns_source, which is unreadable.
    StateRead read();

private:
    [[nodiscard]] StateRead nothing_read(std::string why) const;

    std::uint32_t inode_;
    std::filesystem::path host_root_;
    ChangeCounters counters_;
    std::optional<NodeReader> reader_;
    std::optional<std::uint64_t> cookie_;  // of what the reader has read: an inode number can be another's by now
};

struct ReaderOptions {
    PodFolders pods = PodFolders::below("/");
    // Change counters as of now; read before and after the dump. Default: all zero.
    std::function<hptrace_changes()> changes;
};

// Reads the whole state of the network namespace the calling thread is in, once: natively, executing nothing and
// changing nothing (no legacy table, netlink family or module is touched unless it is already there).
StateRead read_node_state(const ReaderOptions& options);

// The connections conntrack knows now whose destination was rewritten, of the calling thread's namespace:
// nf_nat ones by IPS_DST_NAT, ip_vs ones (net.ipv4.vs.conntrack=1) by a changed reply tuple without it.
// Uses ctnetlink if nf_conntrack_netlink is present, else /proc/thread-self/net/nf_conntrack.
// No conntrack at all: an empty list.
Result<std::vector<Connection>> read_existing_connections();

}  // namespace hptrace
