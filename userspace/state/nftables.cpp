// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/nftables.hpp"

#include <linux/netfilter/nfnetlink.h>

#include <algorithm>
#include <utility>

#include "base/memory.hpp"
#include "base/presence.hpp"
#include "state/set_names.hpp"

namespace hptrace {
namespace {

// Bytes of notifications that may wait, in the kernel's memory: between readings, and during one, which a sync of a
// kube-proxy with 10,000 Services must not spoil.
constexpr int queue_between_readings = 8 << 20;
constexpr int queue_while_reading = 32 << 20;
// How long nobody listens between readings after one did.
constexpr std::chrono::minutes quiet_time{10};

// How long a commit is waited for that has begun before it is asked again whether it has ended: its end is notified.
constexpr std::chrono::milliseconds commit_wait{20};

std::unexpected<Error> changed() {
    return system_error("nf_tables: the ruleset changed faster than it could be read", EINTR);
}

// The ruleset changed under a dump: what is left of it is to be read again.
bool is_outrun(const Error& error) {
    return error.code == EINTR || error.code == ENOENT;
}

}  // namespace

Result<void> NftReader::stopped() const {
    if (options_.stop.stop_requested()) {
        return system_error("nf_tables", ECANCELED);
    }
    return {};
}

std::uint64_t NftReader::version(std::uint32_t generation) const {
    return (std::uint64_t{went_} << 32U) + generation + 1;
}

Result<void> NftReader::open() {
    if (sockets_) {
        return {};
    }
    auto notifications = NetlinkSocket::open(NETLINK_NETFILTER, "nf_tables");
    if (!notifications) {
        return std::unexpected(notifications.error());
    }
    auto dump = NftDump::open();
    if (!dump) {
        return std::unexpected(dump.error());
    }
    sockets_.emplace(*std::move(notifications), *std::move(dump));
    return {};
}

bool NftReader::follows() const {
    return options_.following == Following::yes && mirror_.objects() <= kept_nft_objects &&
           Clock::now() >= follows_again_at_;
}

void NftReader::close() {
    sockets_.reset();
    joined_ = false;
    mirror_.restart(0);
}

Result<void> NftReader::join() {
    mirror_.restart(0);
    mirror_.begin_reading();
    sockets_->notifications.set_queue(queue_while_reading);
    joined_ = true;
    return sockets_->notifications.join(NFNLGRP_NFTABLES);
}

Result<void> NftReader::catch_up() {
    for (;;) {
        const auto drained = sockets_->notifications.drain([this](const Message& message) -> Result<void> {
            const auto go_on = stopped();
            return go_on && mirror_.listed() ? mirror_.notified(message) : go_on;
        });
        if (drained) {
            return {};
        }
        if (drained.error().code != ENOBUFS) {
            return drained;
        }
        mirror_.restart(0);  // some were lost, of what is not known; what still comes is of no use either
        overflowed_ = true;
    }
}

Result<std::vector<NftTableMessage>> NftReader::list_tables() {
    std::vector<NftTableMessage> tables;
    const auto listed = sockets_->dump.tables([&](const Message& message) -> Result<void> {
        auto table = parse_nft_table(message);
        if (!table) {
            return failure("nf_tables: cannot parse a table");
        }
        if (tables.size() == options_.limits.objects) {
            return system_error("nf_tables: too many tables", EFBIG);
        }
        tables.push_back(*std::move(table));
        return {};
    });
    return listed ? Result<std::vector<NftTableMessage>>(std::move(tables)) : std::unexpected(listed.error());
}

Result<void> NftReader::list() {
    // Before the first question, so that all that is committed after its answer is notified.
    const auto generation = sockets_->dump.generation();
    if (!generation) {
        return std::unexpected(generation.error());
    }
    mirror_.restart(*generation);
    const auto chains = sockets_->dump.chains([this](const Message& message) -> Result<void> {
        const auto go_on = stopped();
        return go_on ? mirror_.add_chain(message) : go_on;
    });
    if (!chains) {
        return chains;
    }
    const auto tables = list_tables();
    if (!tables) {
        return std::unexpected(tables.error());
    }
    mirror_.set_tables(*tables);
    for (const auto& [key, owned] : *tables) {
        if (families_of(key.first).empty() || !sets_matter(key.second)) {
            continue;
        }
        const auto sets = sockets_->dump.sets(key, [this](const Message& message) { return mirror_.add_set(message); });
        if (!sets) {
            return sets;
        }
    }
    mirror_.set_listed();
    return {};
}

Result<void> NftReader::fill() {
    const auto sets = mirror_.read_sets([this](const NftTableKey& table, NftSet& set) -> Result<void> {
        return sockets_->dump.elements(table, set.name, [&](const Message& message) -> Result<void> {
            const auto go_on = stopped();
            return go_on ? mirror_.add_elements(message, set) : go_on;
        });
    });
    if (!sets) {
        return sets;
    }
    return mirror_.read_chains(kernel_set_names(), [this](const NftTableKey& table, const std::string& chain) {
        const auto go_on = stopped();
        return go_on ? sockets_->dump.rules(table, chain,
                                            [this](const Message& message) { return mirror_.add_rule(message); })
                     : go_on;
    });
}

Result<bool> NftReader::round() {
    if (const auto caught_up = catch_up(); !caught_up) {
        return std::unexpected(caught_up.error());
    }
    if (!mirror_.listed()) {
        if (const auto listed = list(); !listed) {
            return std::unexpected(listed.error());
        }
        if (const auto caught_up = catch_up(); !caught_up) {
            return std::unexpected(caught_up.error());
        }
    }
    mirror_.take_changed();
    if (const auto filled = fill(); !filled) {
        return std::unexpected(filled.error());
    }
    if (const auto caught_up = catch_up(); !caught_up) {
        return std::unexpected(caught_up.error());
    }
    if (!mirror_.listed() || mirror_.take_changed()) {
        return false;
    }
    const auto generation = sockets_->dump.generation();
    if (!generation) {
        return std::unexpected(generation.error());
    }
    if (*generation == mirror_.generation()) {
        return true;
    }
    if (joined_) {
        // What is committed is notified when all of it is visible; its last notification is the generation.
        static_cast<void>(sockets_->notifications.wait(commit_wait));
    }
    return false;
}

// The rest of the dump that failed would still come.
Result<void> NftReader::reopen_dump() {
    auto dump = NftDump::open();
    if (!dump) {
        return std::unexpected(dump.error());
    }
    sockets_->dump = *std::move(dump);
    return {};
}

Result<bool> NftReader::glance() {
    if (joined_) {
        return false;
    }
    const auto done = round();
    if (done || !is_outrun(done.error())) {
        return done;
    }
    const auto reopened = reopen_dump();
    return reopened ? Result<bool>(false) : std::unexpected(reopened.error());
}

Result<void> NftReader::begin_following() {
    if (joined_ || !follows()) {
        return {};
    }
    sockets_->notifications.set_queue(queue_between_readings);
    if (const auto joined = sockets_->notifications.join(NFNLGRP_NFTABLES); !joined) {
        return joined;
    }
    const auto generation = sockets_->dump.generation();
    if (!generation) {
        return std::unexpected(generation.error());
    }
    joined_ = *generation == mirror_.generation();
    return {};
}

Result<void> NftReader::refresh() {
    mirror_.begin_reading();
    const auto begun = Clock::now();
    if (const auto done = glance(); !done || *done) {
        return done ? begin_following() : std::unexpected(done.error());
    }
    if (joined_) {
        sockets_->notifications.set_queue(queue_while_reading);
    } else if (const auto joined = join(); !joined) {
        return joined;
    }
    while (Clock::now() - begun < options_.patience) {
        if (const auto go_on = stopped(); !go_on) {
            return go_on;
        }
        const auto done = round();
        if (done && *done) {
            sockets_->notifications.set_queue(queue_between_readings);
            return {};
        }
        if (!done) {
            if (!is_outrun(done.error())) {
                return std::unexpected(done.error());
            }
            if (const auto reopened = reopen_dump(); !reopened) {
                return reopened;
            }
        }
    }
    return changed();
}

Result<bool> NftReader::owned_tables_went() {
    if (owned_tables_.empty()) {
        return false;
    }
    const auto tables = list_tables();
    if (!tables) {
        return std::unexpected(tables.error());
    }
    if (mirror_.listed()) {
        mirror_.set_tables(*tables);
    }
    return std::ranges::any_of(owned_tables_, [&tables](const NftTableKey& owned) {
        return std::ranges::find(*tables, owned, &NftTableMessage::table) == tables->end();
    });
}

ReadIfNew<std::vector<RuleTable>> NftReader::read_open(std::optional<std::uint64_t> known) {
    const auto generation = sockets_->dump.generation();
    if (!generation) {
        return std::unexpected(generation.error());
    }
    const auto went = owned_tables_went();
    if (!went) {
        return std::unexpected(went.error());
    }
    went_ += *went ? 1U : 0U;
    if (version(*generation) == known) {
        return std::nullopt;
    }
    changed_at_ = Clock::now();
    if (const auto refreshed = refresh(); !refreshed) {
        return std::unexpected(refreshed.error());
    }
    owned_tables_ = mirror_.owned_tables();
    const auto found = version(mirror_.generation());
    return Versioned{found, mirror_.lend()};
}

bool NftReader::keep_what_is_known(const Error& error) {
    if (error.code != EINTR && error.code != ECANCELED) {
        return false;
    }
    return reopen_dump().has_value();
}

ReadIfNew<std::vector<RuleTable>> NftReader::read_if_new(std::optional<std::uint64_t> known) {
    if (!subsystem_present("nf_tables") || !subsystem_present("nfnetlink")) {
        close();
        return known == 0 ? std::nullopt : std::optional(Versioned<std::vector<RuleTable>>{});
    }
    if (const auto opened = open(); !opened) {
        return std::unexpected(opened.error());
    }
    auto read = read_open(known);
    if (std::exchange(overflowed_, false)) {
        follows_again_at_ = Clock::now() + quiet_time;
    }
    if (!joined_ || !follows() || (!read && !keep_what_is_known(read.error()))) {
        close();
    }
    if (read && !*read) {
        rest();
    }
    return read;
}

void NftReader::rest() {
    if (sockets_ && Clock::now() - changed_at_ >= options_.restless) {
        close();
        give_back_memory();
    }
}

void NftReader::give_back(std::vector<RuleTable> tables) {
    mirror_.take_back(std::move(tables));
}

Result<std::vector<RuleTable>> read_nf_tables() {
    auto read = NftReader({}).read_if_new(std::nullopt);
    if (!read) {
        return std::unexpected(read.error());
    }
    auto& all = *read;  // there: nothing was known
    return all ? std::move(all->content) : std::vector<RuleTable>{};
}

ReadIfNew<std::vector<RuleTable>> read_nf_tables_if_new(std::optional<std::uint64_t> known) {
    return NftReader({}).read_if_new(known);
}

}  // namespace hptrace
