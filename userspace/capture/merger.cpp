// SPDX-License-Identifier: GPL-2.0-or-later
#include "capture/merger.hpp"

#include <algorithm>
#include <utility>

namespace hptrace {

std::size_t Merger::KeyHash::operator()(const Key& key) const noexcept {
    std::size_t hash = key.netns;
    const auto mix = [&hash](std::size_t value) { hash = (hash * 0x9e3779b97f4a7c15U) ^ value ^ (hash >> 29U); };
    mix(key.zone);
    mix(static_cast<std::size_t>(key.protocol));
    for (const auto* endpoint : {&key.client, &key.original, &key.rewritten}) {
        mix(std::hash<Endpoint>{}(*endpoint));
    }
    return hash;
}

Merger::Key Merger::key_of(const Connection& connection) {
    return {.netns = connection.netns,
            .zone = connection.zone,
            .protocol = connection.protocol,
            .client = connection.client,
            .original = connection.original,
            .rewritten = connection.rewritten};
}

Merger::Waiting* Merger::waiting(Sequence sequence) {
    return sequence < front_ ? nullptr : &waiting_[sequence - front_];
}

void Merger::take(Observation&& observation) {
    if (observation.kind == Observation::Kind::commit) {
        commit(std::move(observation));
        return;
    }
    if (observation.kind == Observation::Kind::clash) {
        clash(observation);
        return;
    }
    const Sequence sequence = front_ + waiting_.size();
    Waiting entry{.connection = std::move(observation.connection), .ct = observation.ct, .stands_for_it = sequence};
    if (entry.connection.mechanism == Mechanism::ip_vs) {
        // IPVS knows no unconfirmed connections.
        entry.connection.committed = true;
        entry.resolved = true;
        waiting_.push_back(std::move(entry));
        return;
    }
    if (entry.connection.committed) {
        entry.doubtful = options_.sees_clashes && follows_a_commit(entry.connection);
        entry.resolved = !entry.doubtful;
        remember_commit(entry.connection);
    } else if (!options_.sees_commits) {
        entry.resolved = true;
    } else {
        entry.doubtful = options_.sees_clashes && follows_a_commit(entry.connection);
        join_equals(entry, sequence);
        if (const auto earlier = by_ct_.find(entry.ct); earlier != by_ct_.end()) {
            // The conntrack entry was freed and its memory used again, so it never got committed. Its connection may
            // be, by another packet.
            auto& gone = *waiting(earlier->second);
            if (!gone.resolved && !gone.connection.committed && gone.stands_for == 1) {
                gone.resolved = true;
                if (!gone.commit_lost) {
                    gone.connection.committed = false;
                }
            }
        }
    }
    by_ct_[entry.ct] = sequence;
    if (entry.doubtful && !entry.repeat) {
        const auto [newest, only] = doubtful_.try_emplace(key_of(entry.connection), sequence);
        if (!only) {
            entry.doubtful_before = std::exchange(newest->second, sequence);
        }
    }
    waiting_.push_back(std::move(entry));
}

// Remembers the decision and merges it into an equal one that is open.
void Merger::join_equals(Waiting& entry, Sequence sequence) {
    const auto& connection = entry.connection;
    const auto key = key_of(connection);
    auto found = uncommitted_.find(key);
    if (found != uncommitted_.end() && is_over(found->second, key.protocol, connection.boot_ns)) {
        forget(found);
        found = uncommitted_.end();
    }
    if (found == uncommitted_.end()) {
        if (uncommitted_.size() >= options_.capacity) {
            const auto oldest = uncommitted_.find(*ages_.front());
            forgotten_ += is_over(oldest->second, oldest->first.protocol, connection.boot_ns) ? 0U : 1U;
            forget(oldest);
        }
        found = uncommitted_.emplace(key, Uncommitted{.first = sequence}).first;
        found->second.age = ages_.insert(ages_.end(), &found->first);
    } else if (auto* first = waiting(found->second.first)) {
        entry.repeat = true;
        entry.stands_for_it = found->second.first;
        ++first->stands_for;
    } else {
        entry.retry = true;
        found->second.first = sequence;
    }
    auto& open = found->second;
    ages_.splice(ages_.end(), ages_, open.age);
    open.last = sequence;
    open.last_ns = std::max(open.last_ns, connection.boot_ns);
}

// An equal decision made now is of another connection.
bool Merger::is_over(const Uncommitted& open, Protocol protocol, std::uint64_t now) {
    const std::chrono::nanoseconds window = repeat_window(protocol);
    return now > open.last_ns + static_cast<std::uint64_t>(window.count());
}

void Merger::forget(UncommittedByKey::iterator entry) {
    ages_.erase(entry->second.age);
    uncommitted_.erase(entry);
}

void Merger::forget(const Key& key) {
    if (const auto found = uncommitted_.find(key); found != uncommitted_.end()) {
        forget(found);
    }
}

// The one that is handed over for this one, as long as it waits.
Merger::Waiting* Merger::standing_for(Waiting& entry) {
    if (auto* other = waiting(entry.stands_for_it)) {
        return other;
    }
    const auto open = uncommitted_.find(key_of(entry.connection));
    return open == uncommitted_.end() ? nullptr : waiting(open->second.first);
}

Merger::Waiting* Merger::by_ct(std::uint64_t ct, const Key& key) {
    const auto found = by_ct_.find(ct);
    auto* entry = found == by_ct_.end() ? nullptr : waiting(found->second);
    return entry != nullptr && key_of(entry->connection) == key ? entry : nullptr;
}

void Merger::commit(Observation&& observation) {
    const auto key = key_of(observation.connection);
    const auto settle = [&](Waiting& entry) {
        entry.resolved = !entry.doubtful;
        entry.connection.committed = true;
        entry.connection.reply_destination = observation.connection.reply_destination;
    };
    auto* own = by_ct(observation.ct, key);
    if (own != nullptr && own->connection.committed == true) {
        own = nullptr;  // that was another commit
    }
    if (own != nullptr && own->repeat && own->stands_for > 0 && standing_for(*own) == nullptr) {
        own->repeat = false;  // the one it was merged into did not wait for it
    }
    const auto open = uncommitted_.find(key);
    auto* first = open == uncommitted_.end() ? nullptr : waiting(open->second.first);
    // The first of several equal decisions stands for all of them.
    auto* shown = own != nullptr ? standing_for(*own) : first;
    for (auto* entry : {shown, own}) {
        if (entry != nullptr) {
            settle(*entry);
        }
    }
    bool decided = shown != nullptr || own != nullptr;
    if (!decided && open != uncommitted_.end() && open->second.ct == observation.ct &&
        !is_over(open->second, key.protocol, observation.connection.boot_ns)) {
        decided = true;
        if (open->second.denied) {
            deny_no_longer(open->second, observation.connection);
        }
    }
    if (open != uncommitted_.end() && shown == first) {
        forget(open);
    }
    // The packet that loses a clash passes __nf_conntrack_confirm() with the entry of the one that won.
    const bool again = follows_a_commit(observation.connection);
    remember_commit(observation.connection);
    if (!decided && !again) {
        orphans_.push_back(std::move(observation.connection));
    }
}

// It took its first packet longer than anyone waits: it was handed over as not committed, and is once more.
void Merger::deny_no_longer(const Uncommitted& open, const Connection& commit) {
    Waiting entry{.connection = commit, .resolved = true, .stands_for_it = front_ + waiting_.size()};
    entry.connection.boot_ns = open.boot_ns;
    entry.connection.rule = open.rule;
    entry.connection.changes = open.changes;
    waiting_.push_back(std::move(entry));
}

Merger::Waiting* Merger::newest_doubtful(const Key& key) {
    const auto found = doubtful_.find(key);
    while (found != doubtful_.end()) {
        auto* entry = waiting(found->second);
        if (entry != nullptr && !entry->repeat) {
            return entry;
        }
        if (entry == nullptr || !entry->doubtful_before) {
            doubtful_.erase(found);
            break;
        }
        found->second = *entry->doubtful_before;
    }
    return nullptr;
}

// One decision less has a connection of its own: one of those the entry that lost is merged with, or else, since the
// entry that won is as likely to be the later one, of those that came when the connection had been committed already.
void Merger::clash(const Observation& observation) {
    const auto key = key_of(observation.connection);
    auto* lost = by_ct(observation.ct, key);
    auto* own = lost == nullptr ? nullptr : standing_for(*lost);
    auto* less = own != nullptr && (own->doubtful || own->stands_for > 1) ? own : newest_doubtful(key);
    if (less == nullptr || less->repeat || --less->stands_for > 0) {
        return;
    }
    less->repeat = true;
    less->resolved = true;
    if (const auto open = uncommitted_.find(key); open != uncommitted_.end() && waiting(open->second.first) == less) {
        forget(open);
    }
}

bool Merger::follows_a_commit(const Connection& connection) const {
    const auto found = committed_.find(key_of(connection));
    const auto clash = static_cast<std::uint64_t>(options_.clash_time.count());
    return found != committed_.end() && found->second + clash > connection.boot_ns;
}

void Merger::adopt_orphans() {
    for (auto& connection : orphans_) {
        waiting_.push_back(
            {.connection = std::move(connection), .resolved = true, .stands_for_it = front_ + waiting_.size()});
    }
    orphans_.clear();
}

void Merger::remember_commit(const Connection& connection) {
    committed_[key_of(connection)] = connection.boot_ns;
    commits_.emplace_back(connection.boot_ns, key_of(connection));
}

void Merger::forget_commits(std::uint64_t before) {
    while (!commits_.empty() && (commits_.front().first < before || commits_.size() > options_.capacity)) {
        const auto& [when, key] = commits_.front();
        if (const auto found = committed_.find(key); found != committed_.end() && found->second == when) {
            committed_.erase(found);
            forgotten_ += when < before ? 0U : 1U;
        }
        commits_.pop_front();
    }
}

void Merger::commits_lost() {
    for (auto& entry : waiting_) {
        if (!entry.resolved) {
            entry.commit_lost = true;
        }
    }
}

// It is handed over without having been committed: what is equal to it and comes later, or waits already, is not,
// unless it gets committed.
void Merger::leave_open(const Waiting& entry, Sequence sequence) {
    const auto found = uncommitted_.find(key_of(entry.connection));
    if (found == uncommitted_.end() || found->second.first != sequence) {
        return;
    }
    if (entry.commit_lost) {
        forget(found);  // it may have been committed: the next decision like it is a connection of its own
        return;
    }
    auto& open = found->second;
    open.denied = entry.connection.committed == false;
    open.ct = entry.ct;
    open.boot_ns = entry.connection.boot_ns;
    open.rule = entry.connection.rule;
    open.changes = entry.connection.changes;
    if (open.last == sequence) {
        return;
    }
    auto& next = *waiting(open.last);
    next.repeat = false;
    next.retry = true;
    next.stands_for_it = open.last;
    next.stands_for = std::max<std::size_t>(entry.stands_for, 2) - 1;
    open.first = open.last;
}

std::size_t Merger::hand_over_front(const Sink& sink) {
    const auto sequence = front_;
    Waiting entry = std::move(waiting_.front());
    waiting_.pop_front();
    ++front_;
    if (const auto found = by_ct_.find(entry.ct); found != by_ct_.end() && found->second == sequence) {
        by_ct_.erase(found);
    }
    if (entry.doubtful) {
        const auto newest = doubtful_.find(key_of(entry.connection));
        if (newest != doubtful_.end() && newest->second == sequence) {
            doubtful_.erase(newest);
        }
    }
    if (!entry.repeat && entry.connection.committed != true) {
        leave_open(entry, sequence);
    }
    if (entry.repeat || (entry.retry && entry.connection.committed == false)) {
        return 0;
    }
    sink(std::move(entry.connection));
    return 1;
}

std::size_t Merger::release(std::uint64_t now, const Sink& sink) {
    const auto hold = static_cast<std::uint64_t>(options_.hold_time.count());
    adopt_orphans();
    std::size_t count = 0;
    while (!waiting_.empty()) {
        auto& front = waiting_.front();
        if (!front.resolved) {
            const bool expired = now >= front.connection.boot_ns + hold;
            if (!expired && waiting_.size() <= options_.capacity) {
                break;
            }
            if (expired && !front.commit_lost && !front.connection.committed) {
                front.connection.committed = false;
                if (!front.doubtful && follows_a_commit(front.connection)) {
                    front.repeat = true;
                    forget(key_of(front.connection));
                }
            }
        }
        count += hand_over_front(sink);
    }
    // What still waits was decided after `now - hold`.
    const auto needed = hold + static_cast<std::uint64_t>(options_.clash_time.count());
    forget_commits(now > needed ? now - needed : 0);
    // TCP's window is the longest; what is over of others goes with it.
    while (!ages_.empty() && is_over(uncommitted_.at(*ages_.front()), Protocol::tcp, now)) {
        forget(uncommitted_.find(*ages_.front()));
    }
    return count;
}

bool Merger::handed_over(std::uint64_t boot_ns) const {
    // Records of several processors come almost, not quite, in the order of their times.
    return std::ranges::none_of(
        waiting_, [boot_ns](const Waiting& entry) { return entry.connection.boot_ns <= boot_ns && !entry.repeat; });
}

std::size_t Merger::release_all(const Sink& sink) {
    adopt_orphans();
    std::size_t count = 0;
    while (!waiting_.empty()) {
        count += hand_over_front(sink);
    }
    return count;
}

}  // namespace hptrace
