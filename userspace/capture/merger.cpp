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
    } else if (entry.connection.committed) {
        entry.doubtful = options_.sees_clashes && follows_a_commit(entry.connection);
        entry.resolved = !entry.doubtful;
        remember_commit(entry.connection);
    } else if (!options_.sees_commits) {
        entry.resolved = true;
    } else {
        entry.doubtful = options_.sees_clashes && follows_a_commit(entry.connection);
        entry.stands_for_it = remember(key_of(entry.connection), sequence);
        entry.repeat = entry.stands_for_it != sequence;
        if (auto* first = waiting(entry.stands_for_it); entry.repeat && first != nullptr) {
            ++first->stands_for;
        }
        if (const auto earlier = by_ct_.find(entry.ct); earlier != by_ct_.end()) {
            // The conntrack entry was freed and its memory used again, so it never got committed. Its connection may
            // be, by another packet.
            auto& gone = *waiting(earlier->second);
            if (!gone.connection.committed && gone.stands_for == 1) {
                gone.resolved = true;
                if (!gone.commit_lost) {
                    gone.connection.committed = false;
                }
            }
        }
        by_ct_[entry.ct] = sequence;
    }
    waiting_.push_back(std::move(entry));
}

// The first of equal decisions that are open.
Merger::Sequence Merger::remember(const Key& key, Sequence sequence) {
    if (const auto found = uncommitted_.find(key); found != uncommitted_.end()) {
        ages_.splice(ages_.end(), ages_, found->second.age);
        return found->second.first;
    }
    if (uncommitted_.size() >= options_.capacity) {
        uncommitted_.erase(ages_.front());
        ages_.pop_front();
    }
    ages_.push_back(key);
    uncommitted_.emplace(key, Uncommitted{.age = std::prev(ages_.end()), .first = sequence});
    return sequence;
}

void Merger::forget(const Key& key) {
    if (const auto found = uncommitted_.find(key); found != uncommitted_.end()) {
        ages_.erase(found->second.age);
        uncommitted_.erase(found);
    }
}

void Merger::commit(Observation&& observation) {
    const auto key = key_of(observation.connection);
    bool decided = false;
    const auto settle = [&](Waiting& entry) {
        entry.resolved = !entry.doubtful;
        entry.connection.committed = true;
        entry.connection.reply_destination = observation.connection.reply_destination;
    };
    if (const auto open = uncommitted_.find(key); open != uncommitted_.end()) {
        // The first of several equal decisions stands for all of them.
        if (auto* first = waiting(open->second.first)) {
            settle(*first);
        }
        forget(key);
        decided = true;
    }
    if (const auto found = by_ct_.find(observation.ct); found != by_ct_.end()) {
        auto& entry = *waiting(found->second);
        if (key_of(entry.connection) == key) {
            settle(entry);
            by_ct_.erase(found);
            decided = true;
        }
    }
    // The packet that loses a clash passes __nf_conntrack_confirm() with the entry of the one that won.
    const bool again = follows_a_commit(observation.connection);
    remember_commit(observation.connection);
    if (!decided && !again) {
        orphans_.push_back(std::move(observation.connection));
    }
}

// One decision less has a connection of its own: one of those the entry that lost is merged with, or else, since the
// entry that won is as likely to be the later one, of those that came when the connection had been committed already.
void Merger::clash(const Observation& observation) {
    const auto key = key_of(observation.connection);
    Waiting* own = nullptr;
    Waiting* doubtful = nullptr;
    for (auto sequence = front_ + waiting_.size(); sequence-- > front_ && own == nullptr;) {
        auto& entry = *waiting(sequence);
        if (key_of(entry.connection) != key) {
            continue;
        }
        if (entry.ct == observation.ct) {
            own = waiting(entry.stands_for_it);
        }
        if (doubtful == nullptr && entry.doubtful && !entry.repeat) {
            doubtful = &entry;
        }
    }
    auto* less = own != nullptr && (own->doubtful || own->stands_for > 1) ? own : doubtful;
    if (less == nullptr || less->repeat || --less->stands_for > 0) {
        return;
    }
    less->repeat = true;
    less->resolved = true;
    if (const auto open = uncommitted_.find(key); open != uncommitted_.end() && waiting(open->second.first) == less) {
        forget(key);
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

std::size_t Merger::hand_over_front(const Sink& sink) {
    Waiting entry = std::move(waiting_.front());
    if (const auto found = by_ct_.find(entry.ct); found != by_ct_.end() && found->second == front_) {
        by_ct_.erase(found);
    }
    waiting_.pop_front();
    ++front_;
    if (entry.commit_lost && !entry.connection.committed) {
        // It may have been committed: the next decision like it is a connection of its own.
        forget(key_of(entry.connection));
    }
    if (entry.repeat) {
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
