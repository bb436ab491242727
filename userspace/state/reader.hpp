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

// The change counters of the kernel side (bpf/change.bpf.c). Called by several threads at once.
struct ChangeCounters {
    std::function<hptrace_changes(std::uint32_t netns)> now;  // of a namespace, by its inode number: Capture::changes
    std::function<std::uint32_t()> tracked{};  // bit per enum hptrace_source that can be relied on; none by default
    std::function<bool()> incomplete{};        // Capture::misses_changes
};

// One reading of the node. What it found of a source was so at some moment between its counters in `changes` and those
// in `changes_after`. A source that could not be read this time, but once was, has the content of that time: then the
// reading began when that content was read, as far as `changes` and `boot_ns` go. So it is never from after what was
// decided since.
struct StateRead {
    NodeStatePtr state;               // that of the reading before if nothing is different
    hptrace_changes changes{};        // counters when it began to read the source they are of
    hptrace_changes changes_after{};  // counters when all was read
    bool watched = false;             // every source in use announces its changes, to the counters or by itself
    std::uint64_t boot_ns = 0;        // CLOCK_BOOTTIME when it began
    std::uint64_t took_ns = 0;        // how long reading took

    // No change was under way since the first source was read: it is the state as it was at one moment.
    [[nodiscard]] bool consistent() const;
};

// Reads the state of one network namespace again and again, each time only what may have changed.
//
// It keeps, per source, what its content means, and when a reading has to ask the source again:
// - iptables-legacy, nf_tables and ip_vs: when their counter moved. What is found may well be the same.
// - local addresses: when rtnetlink announced a change.
// - what names pods: when files changed (PodSource).
// - ipset: always, it announces nothing. So do sources whose counter is not tracked, and what could not be read before.
// What cannot be read any more keeps the content it had, and is marked (SourceStatus::kept_from_ns). ipset does not age
// a reading by that: sets only tell kinds of Services apart.
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
    // Asked about once a second while nothing else is read; so here it ceases to listen to what has not changed for
    // long.
    [[nodiscard]] bool announced();

private:
    // What is known of a source.
    template <class T>
    struct Part {
        std::shared_ptr<const T> content = std::make_shared<const T>();
        SourceStatus status{};
        std::optional<std::uint64_t> version{};  // none: not known, or never read
        std::uint64_t read_ns = 0;               // CLOCK_BOOTTIME when that reading of it began
        // Its begin and end counters at that time.
        std::pair<std::uint32_t, std::uint32_t> counters{};
        bool settled = false;  // no change was under way then, and its counter can be relied on
    };

    [[nodiscard]] hptrace_changes now() const;
    // Each returns whether something is different.
    bool update_all();
    bool update_nf_tables();
    template <class T, class Update>
    bool update_counted(Part<T>& part, hptrace_source source, Update update);
    // The beginning of the reading, as far as what is kept goes.
    void date(StateRead& read) const;
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

// The state of a namespace of which nothing is known: it has the one source netns_source, which is unreadable.
NodeStatePtr unread_state(std::uint32_t netns, std::string why);

// Reads the state of a network namespace that hptrace is not in: enters it for each reading, by whatever leads there at
// that time, and keeps nothing of it open.
class NetnsVisitor {
public:
    // host_root: see node_root_of().
    NetnsVisitor(std::uint32_t inode, std::filesystem::path host_root, ChangeCounters counters)
        : inode_(inode), host_root_(std::move(host_root)), counters_(std::move(counters)) {}

    // As NodeReader::read(). A namespace that cannot be entered, because it is gone or for another reason, has an
    // unread_state().
    StateRead read();

private:
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

}  // namespace hptrace
