// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/traced_namespaces.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/clock.hpp"
#include "base/grace_period.hpp"
#include "cli/overview.hpp"
#include "state/netns.hpp"

namespace hptrace {

namespace {

constexpr std::uint64_t look_for_interval_ns = 30'000'000'000;

}  // namespace

Result<std::unique_ptr<TracedNamespaces>> TracedNamespaces::start(Options options) {
    auto reads = Worker::start();
    auto graces = Worker::start();
    for (const auto* const worker : {&reads, &graces}) {
        if (!*worker) {
            return std::unexpected(worker->error());
        }
    }
    return std::unique_ptr<TracedNamespaces>(
        new TracedNamespaces(std::move(options), *std::move(reads), *std::move(graces)));
}

TracedNamespaces::TracedNamespaces(Options options, Worker reads, Worker graces)
    : options_(std::move(options)),
      readers_(std::make_shared<StateReaders>(options_.here, options_.node, options_.host_root, options_.counters,
                                              options_.filter)),
      here_(make(options_.here)),
      reads_(std::move(reads)),
      graces_(std::move(graces)) {
    await_grace();
    here_->history().ask(StateHistory::Question::state);
}

std::unique_ptr<TracedNetns> TracedNamespaces::make(std::uint32_t inode) {
    const bool here = inode == options_.here;
    const auto& counters = options_.counters;
    auto netns = std::make_unique<TracedNetns>(
        StateHistory::Sources{.ask = [this, inode](StateHistory::Question question) { ask(inode, question); },
                              .changes = [now = counters.now, inode] { return now ? now(inode) : hptrace_changes{}; },
                              .tracked = counters.tracked ? counters.tracked : [] { return 0U; },
                              .incomplete = counters.incomplete ? counters.incomplete : [] { return false; },
                              .boot_ns = boot_clock_ns,
                              .kept_fresh = here,
                              .graces = options_.graces},
        here ? options_.cluster : ClusterNamesSource());
    if (first_grace_ns_) {  // nothing that was replaced before the trace began is met since then
        netns->history().known_grace({}, *first_grace_ns_);
    }
    return netns;
}

TracedNetns* TracedNamespaces::find(std::uint32_t inode) {
    if (inode == options_.here) {
        return here_.get();
    }
    const auto found = elsewhere_.find(inode);
    return found == elsewhere_.end() ? nullptr : found->second.get();
}

TracedNetns& TracedNamespaces::of(std::uint32_t inode) {
    if (inode == options_.here) {
        return *here_;
    }
    auto& netns = elsewhere_[inode];
    if (!netns) {
        netns = make(inode);
    }
    return *netns;
}

void TracedNamespaces::each(const std::function<void(TracedNetns&)>& visit) {
    visit(*here_);
    for (auto& [inode, netns] : elsewhere_) {
        visit(*netns);
    }
}

void TracedNamespaces::ask(std::uint32_t inode, StateHistory::Question question) {
    reads_.ask([this, readers = readers_, inode, question]() -> Worker::Reply {
        const auto begun = boot_clock_ns();
        auto reading =
            question == StateHistory::Question::state ? std::optional(readers->read(inode)) : readers->read_news(inode);
        return [this, inode, begun, reading = std::move(reading)]() mutable {
            if (auto* const netns = find(inode); netns == nullptr) {
                return;  // forgotten
            } else if (!reading) {
                netns->history().nothing_new(begun);
            } else {
                add(inode, *std::move(reading));
            }
        };
    });
}

void TracedNamespaces::add(std::uint32_t inode, Reading reading) {
    options_.on_read(reading);
    of(inode).add(std::move(reading));
}

void TracedNamespaces::await_grace() {
    bool wanted = false;
    each([&](TracedNetns& netns) { wanted = wanted || netns.history().wants_grace(); });
    if (grace_under_way_ || !wanted) {
        return;
    }
    grace_under_way_ = true;
    each([](TracedNetns& netns) { netns.history().grace_begins(); });
    graces_.ask([this]() -> Worker::Reply {
        const auto begun = boot_clock_ns();
        const auto assumed = begun + static_cast<std::uint64_t>(std::chrono::nanoseconds(assumed_grace_period).count());
        const auto over = wait_for_grace_period() ? boot_clock_ns() : assumed;
        return [this, over] {
            grace_under_way_ = false;
            first_grace_ns_ = first_grace_ns_.value_or(over);
            each([over](TracedNetns& netns) { netns.history().grace_over(over); });
        };
    });
}

void TracedNamespaces::turn() {
    reads_.hand_over();
    graces_.hand_over();
    await_grace();
    each([](TracedNetns& netns) {
        netns.history().keep_fresh();
        if (netns.conflicts().waiting()) {
            netns.history().ask(StateHistory::Question::state);
        }
    });
    list_again();
}

void TracedNamespaces::take(Connection connection) {
    if (waiting_ >= most_waiting) {
        ++overflowed_;
        return;
    }
    ++waiting_;
    auto& judge = of(connection.netns).judge();
    judge.take(std::move(connection));
}

void TracedNamespaces::take_existing(Connection connection) {
    ++existing_waiting_;
    auto& judge = of(connection.netns).existing();
    judge.take(std::move(connection));
}

bool TracedNamespaces::judge(const LiveJudge::Sink& sink, LiveJudge::Haste haste, Existing existing_ones) {
    const auto told = [&](std::size_t& count) {
        return [&](const Finding& finding) {
            --count;
            sink(finding);
        };
    };
    // What a sink meets for the first time is introduced, and can make a namespace known: so by number, not by place.
    std::vector<std::uint32_t> inodes{options_.here};
    for (const auto& [inode, netns] : elsewhere_) {
        inodes.push_back(inode);
    }
    // After the one that took the rest of the last turn's time.
    const auto first = std::ranges::find(inodes, judged_last_);
    if (first != inodes.end()) {
        std::ranges::rotate(inodes, std::next(first));
    }
    for (const bool existing : {false, true}) {
        if (existing && existing_ones == Existing::later) {
            break;
        }
        for (const auto inode : inodes) {
            auto& netns = of(inode);
            auto& judge = existing ? netns.existing() : netns.judge();
            if (judge.judge(told(existing ? existing_waiting_ : waiting_), haste)) {
                judged_last_ = inode;
                return true;
            }
        }
    }
    return false;
}

std::shared_ptr<ExistingConnections> TracedNamespaces::existing(bool everywhere, ExistingConnections::Wanted wanted) {
    return std::make_shared<ExistingConnections>(
        everywhere, std::move(wanted), [readers = readers_](std::uint32_t netns) { return readers->read(netns); });
}

void TracedNamespaces::ask(const std::shared_ptr<ExistingConnections>& existing,
                           std::function<void(ExistingPiece)> reply) {
    reads_.ask([this, existing, reply = std::move(reply)]() -> Worker::Reply {
        return [this, reply, piece = existing->next()]() mutable {
            if (piece.before) {
                add(piece.before->first, std::move(piece.before->second));
            }
            reply(std::move(piece));
        };
    });
}

void TracedNamespaces::list_again() {
    const auto now = boot_clock_ns();
    if (elsewhere_.empty() || now - looked_for_ < look_for_interval_ns) {
        return;
    }
    looked_for_ = now;
    std::set<std::uint32_t> known;
    for (const auto& [inode, netns] : elsewhere_) {
        known.insert(inode);
    }
    reads_.ask([this, known = std::move(known)]() mutable -> Worker::Reply {
        for (const auto& place : list_netns()) {
            known.erase(place.inode);
        }
        return [this, vanished = std::move(known)]() mutable { vanished_ = std::move(vanished); };
    });
}

std::vector<Conflict> TracedNamespaces::forget_gone() {
    std::vector<Conflict> ended;
    std::erase_if(elsewhere_, [&](const auto& entry) {
        const auto& [inode, netns] = entry;
        const bool refused = netns->refused();
        if (!netns->idle() || !(refused || vanished_.contains(inode))) {
            return false;
        }
        vanished_.erase(inode);
        unjudged_ += refused ? 1 : 0;
        std::ranges::move(netns->conflicts().end(), std::back_inserter(ended));
        reads_.ask([readers = readers_, inode]() -> Worker::Reply {
            readers->forget(inode);
            return {};
        });
        return true;
    });
    return ended;
}

TracedNamespaces::Unread TracedNamespaces::unread() {
    Unread unread;
    if (!here_->history().empty()) {
        const auto& here = *here_->history().newest().state;
        unread = {.sources = unread_sources(here), .count = count_unread(here), .rules = here.unread_rules.size()};
    }
    for (auto& [inode, netns] : elsewhere_) {
        if (netns->history().empty()) {
            continue;
        }
        const auto& state = *netns->history().newest().state;
        for (const auto& source : unread_sources(state)) {
            unread.sources.push_back(fmt::format("netns {}: {}", inode, source));
        }
        const auto [deciding, naming] = count_unread(state);
        unread.count.deciding += deciding;
        unread.count.naming += naming;
        unread.rules += state.unread_rules.size();
    }
    if (unjudged_ > 0) {
        ++unread.count.deciding;
        unread.sources.push_back(fmt::format("{} network namespace{} gone", unjudged_, unjudged_ == 1 ? "" : "s"));
    }
    return unread;
}

bool TracedNamespaces::current() {
    bool current = true;
    each([&current](TracedNetns& netns) {
        const auto& history = netns.history();
        current = current && !history.empty() &&
                  std::ranges::none_of(history.newest().state->sources,
                                       [](const auto& source) { return source.second.kept_from_ns.has_value(); });
    });
    return current;
}

bool TracedNamespaces::stop(std::chrono::milliseconds patience) {
    const auto end = std::chrono::steady_clock::now() + patience;
    const bool reads = reads_.stop(patience);
    const auto left = end - std::chrono::steady_clock::now();
    return graces_.stop(std::max(std::chrono::ceil<std::chrono::milliseconds>(left), std::chrono::milliseconds(0))) &&
           reads;
}

}  // namespace hptrace
