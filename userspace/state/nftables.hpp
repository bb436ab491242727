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
// Each chain and set is dumped by itself. If the generation is the same before and after, that is the ruleset. Else
// somebody commits meanwhile: then it joins NFNLGRP_NFTABLES and dumps again; chains and sets that a notification tells
// of are dumped once more, until none is left and the kernel's generation is the one that was notified last. So a
// commit costs what it changed, and a read ends also where somebody commits all the time. In the generation that was
// current when reading began a commit may have been under way: what is not subject to generations (names of chains,
// sets of intervals) is visible only at its end, nf_tables_commit(). Who counts commits (StateRead::consistent) sees
// it.
class NftReader {
public:
    // The kernel makes notifications only where somebody listens, and whoever commits pays for them: some 5 us and 9
    // KiB of the kernel's memory, until the commit ends, for each rule (nlmsg_new(NLMSG_GOODSIZE) in
    // nf_tables_rule_notify). That is 15 % more for a sync of a kube-proxy that rewrites its list of 1,000 Services,
    // and 2 GB and 40 % more for all rules of 10,000. So nobody listens
    // - while nothing changes: the first reading after that is a whole one;
    // - for ten minutes after notifications overflowed: who commits as much rewrites everything, and then all has to be
    //   read again in any case.
    enum class Following : std::uint8_t {
        no,  // every reading is a new one: nothing is kept open, which would keep the namespace alive
        yes  // notifications go on being received between readings, and what was read stays known
    };
    struct Options {
        Following following = Following::no;
        NftLimits limits = own_nft_limits;
        std::stop_token stop{};  // looked at between messages; a stopped reading fails with ECANCELED
        std::chrono::milliseconds patience{30'000};  // a reading that others outrun so long fails with EINTR
        std::chrono::milliseconds restless{60'000};  // nobody listens when nothing has changed for so long
    };

    explicit NftReader(Options options) : options_(std::move(options)), mirror_(options_.limits) {}

    // All tables that can hold nat rules (can_hold_nat), unless the ruleset has the version that was known: its
    // generation plus one, and in the upper half how often tables went with their owner; zero without nf_tables. Must
    // be called by a thread that is in the namespace, always the same one.
    ReadIfNew<std::vector<RuleTable>> read_if_new(std::optional<std::uint64_t> known);
    // What read_if_new() gave, once it is no longer needed: the next reading dumps only what has changed. Without it
    // the next one dumps all.
    void give_back(std::vector<RuleTable> tables);
    // Ceases to listen if nothing has changed for some time (Options::restless). To be called now and then while there
    // is nothing to read.
    void rest();

private:
    struct Sockets {
        NetlinkSocket notifications;
        NftDump dump;
    };

    Result<void> open();
    void close();
    // From now on what is committed is notified, of what was before nothing is known.
    Result<void> join();
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
    // Reads without listening. False: somebody committed meanwhile, or a reading like that is of no use.
    Result<bool> glance();
    // What was read without listening is followed from now on, unless it has changed since.
    Result<void> begin_following();
    Result<bool> owned_tables_went();
    ReadIfNew<std::vector<RuleTable>> read_open(std::optional<std::uint64_t> known);
    [[nodiscard]] Result<void> stopped() const;
    [[nodiscard]] std::uint64_t version(std::uint32_t generation) const;

    // Notifications go on being received between readings.
    [[nodiscard]] bool follows() const;

    using Clock = std::chrono::steady_clock;

    Options options_;
    bool joined_ = false;  // all that is committed is notified, since before the mirror was filled or while it was true
    bool overflowed_ = false;  // notifications were lost since it was last decided whether to follow
    Clock::time_point follows_again_at_{};
    Clock::time_point changed_at_{};  // something new was read
    NftMirror mirror_;
    std::optional<Sockets> sockets_;
    std::vector<NftTableKey> owned_tables_;  // when it was read last
    std::uint32_t went_ = 0;                 // how often tables went with their owner
};

}  // namespace hptrace
