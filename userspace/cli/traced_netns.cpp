// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/traced_netns.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/clock.hpp"
#include "cli/overview.hpp"
#include "state/netns.hpp"

namespace hptrace {

namespace {

constexpr std::uint64_t look_for_interval_ns = 30'000'000'000;

template <class Reader>
StateHistory::Sources sources_of(const std::shared_ptr<Reader>& reader, std::uint32_t inode,
                                 const ChangeCounters& counters, TracedNetns::OnRead on_read) {
    return {.read =
                [reader, on_read = std::move(on_read)] {
                    auto read = reader->read();
                    on_read(*read.state);
                    return read;
                },
            .changes = [now = counters.now, inode] { return now(inode); },
            .announced = {},
            .tracked = counters.tracked,
            .incomplete = counters.incomplete,
            .boot_ns = boot_clock_ns};
}

}  // namespace

std::unique_ptr<TracedNetns> TracedNetns::here(const NodeRoot& node_root, const ChangeCounters& counters,
                                               OnRead on_read, ClusterNamesSource cluster) {
    const auto reader = std::make_shared<NodeReader>(native_sources(PodFolders::below(node_root)), counters);
    auto sources = sources_of(reader, current_netns_inode().value_or(0), counters, std::move(on_read));
    sources.announced = [reader] { return reader->announced(); };
    return std::unique_ptr<TracedNetns>(new TracedNetns(std::move(sources), std::move(cluster)));
}

std::unique_ptr<TracedNetns> TracedNetns::elsewhere(std::uint32_t inode, const std::filesystem::path& host_root,
                                                    const ChangeCounters& counters, OnRead on_read) {
    const auto reader = std::make_shared<NetnsVisitor>(inode, host_root, counters);
    return std::unique_ptr<TracedNetns>(new TracedNetns(sources_of(reader, inode, counters, std::move(on_read))));
}

bool TracedNetns::refused() const {
    return !history_.empty() && history_.last().state->sources.contains(std::string(netns_source));
}

NodeStatePtr TracedNetns::news() {
    const auto& read = history_.newest();
    // Only a state as it was at one moment: half of a change looks like a conflict, or like the end of one.
    if (read.state == told_ || !read.consistent()) {
        return nullptr;
    }
    return told_ = read.state;
}

TracedNamespaces::TracedNamespaces(std::optional<pid_t> node, std::filesystem::path host_root, ChangeCounters counters,
                                   TracedNetns::OnRead on_read, ClusterNamesSource cluster)
    : host_root_(std::move(host_root)),
      counters_(std::move(counters)),
      on_read_(std::move(on_read)),
      inode_(current_netns_inode().value_or(0)),
      here_(TracedNetns::here(node_root_of(node, host_root_), counters_, on_read_, std::move(cluster))) {}

TracedNetns& TracedNamespaces::of(std::uint32_t inode) {
    if (inode == inode_) {
        return *here_;
    }
    auto& netns = elsewhere_[inode];
    if (!netns) {
        netns = TracedNetns::elsewhere(inode, host_root_, counters_, on_read_);
    }
    return *netns;
}

void TracedNamespaces::judge(const LiveJudge::Sink& sink) {
    here_->judge().judge(sink);
    for (auto& [inode, netns] : elsewhere_) {
        netns->judge().judge(sink);
    }
}

std::vector<Conflict> TracedNamespaces::forget_gone() {
    std::vector<Conflict> ended;
    std::optional<std::vector<NetnsPlace>> listed;
    if (const auto now = boot_clock_ns(); !elsewhere_.empty() && now - looked_for_ >= look_for_interval_ns) {
        looked_for_ = now;
        listed = list_netns();
    }
    std::erase_if(elsewhere_, [&](const auto& entry) {
        const auto& [inode, netns] = entry;
        const bool refused = netns->refused();
        const bool vanished = listed && !std::ranges::binary_search(*listed, inode, {}, &NetnsPlace::inode);
        if (!netns->idle() || !(refused || vanished)) {
            return false;
        }
        unjudged_ += refused ? 1 : 0;
        std::ranges::move(netns->conflicts().end(), std::back_inserter(ended));
        return true;
    });
    return ended;
}

void TracedNamespaces::finish(const LiveJudge::Sink& sink) {
    here_->judge().finish(sink);
    for (auto& [inode, netns] : elsewhere_) {
        netns->judge().finish(sink);
    }
}

void TracedNamespaces::each(const std::function<void(TracedNetns&)>& visit) {
    visit(*here_);
    for (auto& [inode, netns] : elsewhere_) {
        visit(*netns);
    }
}

TracedNamespaces::Unread TracedNamespaces::unread() {
    const auto& here = *here_->history().newest().state;
    Unread unread{.sources = unread_sources(here), .rules = here.unread_rules.size()};
    for (auto& [inode, netns] : elsewhere_) {
        if (netns->history().empty()) {
            continue;
        }
        const auto& state = *netns->history().newest().state;
        for (const auto& source : unread_sources(state)) {
            unread.sources.push_back(fmt::format("netns {}: {}", inode, source));
        }
        unread.rules += state.unread_rules.size();
    }
    if (unjudged_ > 0) {
        unread.sources.push_back(fmt::format("{} network namespace{} gone", unjudged_, unjudged_ == 1 ? "" : "s"));
    }
    return unread;
}

}  // namespace hptrace
