// SPDX-License-Identifier: GPL-2.0-or-later
// The ruleset of nf_tables, read as it was at one generation while others change it.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <stop_token>
#include <vector>

#include "state/netlink.hpp"
#include "state/nft_limits.hpp"
#include "state/nftables_dump.hpp"
#include "state/nftables_mirror.hpp"
#include "state/ruleset.hpp"
#include "state/versioned.hpp"

namespace hptrace {

// Of larger rulesets nothing is kept between readings. As many chains, rules and elements take some 150 MB.
inline constexpr std::size_t kept_nft_objects = 250'000;

// Reads the ruleset of one network namespace, again and again.
//
// It joins NFNLGRP_NFTABLES, then dumps each chain and set by itself; those that a notification tells of are dumped
// again, until none is left and the kernel's generation is the one that was notified last. So a commit costs what it
// changed, and a read ends also where somebody commits all the time. In the generation that was current when it joined
// a commit may have been under way, of which nothing was visible yet: some nanoseconds, nf_tables_commit(). Who counts
// commits (StateRead::consistent) sees it.
class NftReader {
public:
    // The kernel makes notifications only where somebody listens, and they are not free: a commit of 170,000 rules
    // takes 60 % longer then (some 20 us a rule), while one of a few rules is lost in what it costs anyway. So where
    // they overflow nobody listens between readings for the next ten minutes: who commits as much rewrites everything,
    // as kube-proxy did before 1.27 at each sync, and then all has to be read again in any case.
    enum class Following : std::uint8_t {
        no,  // every reading is a new one: nothing is kept open, which would keep the namespace alive
        yes  // notifications go on being received, and what was read stays known
    };
    struct Options {
        Following following = Following::no;
        NftLimits limits = own_nft_limits;
        std::stop_token stop{};  // looked at between messages; a stopped reading fails with ECANCELED
        std::chrono::milliseconds patience{30'000};  // a reading that others outrun so long fails with EINTR
    };

    explicit NftReader(Options options) : options_(std::move(options)), mirror_(options_.limits) {}

    // All tables that can hold nat rules (can_hold_nat), unless the ruleset has the version that was known: its
    // generation plus one, and in the upper half how often tables went with their owner; zero without nf_tables. Must
    // be called by a thread that is in the namespace, always the same one.
    ReadIfNew<std::vector<RuleTable>> read_if_new(std::optional<std::uint64_t> known);
    // What read_if_new() gave, once it is no longer needed: the next reading dumps only what has changed. Without it
    // the next one dumps all.
    void give_back(std::vector<RuleTable> tables);

private:
    struct Sockets {
        NetlinkSocket notifications;
        NftDump dump;
    };

    Result<void> open();
    void close();
    // Everything that was notified is in the mirror then.
    Result<void> catch_up();
    Result<void> list();
    Result<std::vector<NftTableMessage>> list_tables();
    // Reads what is not known.
    Result<void> fill();
    Result<void> refresh();
    Result<void> reopen_dump();
    // Is what a failed reading leaves behind a beginning for the next one?
    bool keep_what_is_known(const Error& error);
    // False: another round is needed.
    Result<bool> round();
    Result<bool> owned_tables_went();
    ReadIfNew<std::vector<RuleTable>> read_open(std::optional<std::uint64_t> known);
    [[nodiscard]] Result<void> stopped() const;
    [[nodiscard]] std::uint64_t version(std::uint32_t generation) const;

    // Notifications go on being received between readings.
    [[nodiscard]] bool follows() const;

    Options options_;
    bool overflowed_ = false;                                   // notifications were lost in this reading
    std::chrono::steady_clock::time_point follows_again_at_{};  // after some were
    NftMirror mirror_;
    std::optional<Sockets> sockets_;
    std::uint32_t went_ = 0;  // how often tables went with their owner
};

}  // namespace hptrace
