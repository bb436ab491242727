// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/worker.hpp"
#include "cli/existing.hpp"
#include "cli/traced_netns.hpp"
#include "output/output.hpp"

namespace hptrace {

// The namespace hptrace is in, and any other one that a connection is made in. Their states are read by one thread,
// and another one waits for grace periods; whoever owns this never waits for either.
class TracedNamespaces {
public:
    struct Options {
        std::uint32_t here = 0;       // inode number of the calling thread's namespace
        std::optional<pid_t> node{};  // a process of the node it is the namespace of; none: this process is
        std::filesystem::path host_root = "/";
        ChangeCounters counters{};
        bool graces = false;  // see StateHistory::Sources
        Filter filter{};
        ClusterNamesSource cluster{};  // names what is here; another namespace may be of another cluster
        std::function<void(const Reading&)> on_read = [](const Reading&) {};  // gets to see all that is read
    };

    // Begins to read the state of the namespace the calling thread is in. Error: there is no thread to be had.
    static Result<std::unique_ptr<TracedNamespaces>> start(Options options);

    TracedNamespaces(const TracedNamespaces&) = delete;
    TracedNamespaces(TracedNamespaces&&) = delete;
    TracedNamespaces& operator=(const TracedNamespaces&) = delete;
    TracedNamespaces& operator=(TracedNamespaces&&) = delete;
    ~TracedNamespaces() = default;

    [[nodiscard]] TracedNetns& here() { return *here_; }
    [[nodiscard]] TracedNetns& of(std::uint32_t inode);
    void each(const std::function<void(TracedNetns&)>& visit);

    // What was read has come, what has to be read is asked for. To be called at every turn of the trace, before
    // judge().
    void turn();
    // Readable while there is something for turn(): what was read, and a grace period that is over.
    [[nodiscard]] std::array<int, 2> descriptors() const { return {reads_.descriptor(), graces_.descriptor()}; }

    // To be judged. So many wait at most; what exceeds that is not judged, and counted.
    void take(Connection connection);
    void take_existing(Connection connection);
    static constexpr std::size_t most_waiting = 65536;
    [[nodiscard]] std::uint64_t overflowed() const { return overflowed_; }
    [[nodiscard]] std::size_t existing_waiting() const { return existing_waiting_; }
    enum class Existing : std::uint8_t { too, later };
    // LiveJudge's, of each of them; the order of decisions is kept within a namespace, and those that exist already
    // come after the others. Takes some milliseconds. True: there may be more to be told at once.
    bool judge(const LiveJudge::Sink& sink, LiveJudge::Haste haste = LiveJudge::Haste::none,
               Existing existing = Existing::too);
    // Nothing waits to be judged; later: nothing but what exists already.
    [[nodiscard]] bool idle(Existing existing = Existing::too) const {
        return waiting_ == 0 && (existing == Existing::later || existing_waiting_ == 0);
    }

    // Goes through the connections that exist: asks for the next piece. `reply` is called by turn().
    void ask(const std::shared_ptr<ExistingConnections>& existing, std::function<void(ExistingPiece)> reply);
    // Of this namespace, or of all.
    [[nodiscard]] std::shared_ptr<ExistingConnections> existing(bool everywhere, ExistingConnections::Wanted wanted);

    // Forgets those that are gone: their inode number can be another's from then on. Returns their conflicts. That one
    // is gone shows when it cannot be entered, else within half a minute.
    std::vector<Conflict> forget_gone();

    // What is not read of those that were: sources, with why, and the number of rules.
    struct Unread {
        std::vector<std::string> sources;
        UnreadCount count{};  // of these
        std::size_t rules = 0;
    };
    [[nodiscard]] Unread unread();
    // Nothing is known only from before.
    [[nodiscard]] bool current();

    // Reads nothing more. False: a reading takes longer than `patience`, and this object cannot be destroyed soon.
    [[nodiscard]] bool stop(std::chrono::milliseconds patience);

private:
    TracedNamespaces(Options options, Worker reads, Worker graces);

    [[nodiscard]] TracedNetns* find(std::uint32_t inode);
    [[nodiscard]] std::unique_ptr<TracedNetns> make(std::uint32_t inode);
    void ask(std::uint32_t inode, StateHistory::Question question);
    void add(std::uint32_t inode, Reading reading);
    void await_grace();
    void list_again();

    Options options_;
    std::shared_ptr<StateReaders> readers_;        // used by the jobs of reads_ alone
    std::optional<std::uint64_t> first_grace_ns_;  // CLOCK_BOOTTIME when it was over
    std::unique_ptr<TracedNetns> here_;
    std::map<std::uint32_t, std::unique_ptr<TracedNetns>> elsewhere_;  // by inode number
    std::size_t waiting_ = 0;
    std::size_t existing_waiting_ = 0;
    std::uint64_t overflowed_ = 0;
    std::uint32_t judged_last_ = 0;     // of those elsewhere, where a turn's time was over
    std::size_t unjudged_ = 0;          // of them that were gone before something could be judged
    std::uint64_t looked_for_ = 0;      // CLOCK_BOOTTIME when all were listed last
    std::set<std::uint32_t> vanished_;  // of those elsewhere: nothing leads there any more
    bool grace_under_way_ = false;
    Worker reads_;  // these at last: their replies use the others
    Worker graces_;
};

}  // namespace hptrace
