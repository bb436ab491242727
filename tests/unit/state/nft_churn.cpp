// SPDX-License-Identifier: GPL-2.0-or-later
// Reading nf_tables while others change it: what is read is the ruleset of one generation, never a mixture of two.
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <chrono>
#include <fstream>
#include <functional>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "rules.hpp"
#include "state/nftables.hpp"

using namespace hptrace;

namespace {

// Runs `write` again and again in a process of its own, in the namespace of the calling thread, while `read` runs.
void while_writing(const std::string& script, const std::function<void()>& read) {
    const pid_t writer = ::fork();
    if (writer == 0) {
        ::execlp("sh", "sh", "-c", script.c_str(), nullptr);
        ::_exit(127);
    }
    try {
        read();
    } catch (...) {
        ::kill(writer, SIGKILL);
        ::waitpid(writer, nullptr, 0);
        throw;
    }
    ::kill(writer, SIGKILL);
    ::waitpid(writer, nullptr, 0);
}

std::string chain_name(int number) {
    return "c" + std::to_string(number);
}

// Chains, of which the first and the last are the ends of a walk over all others.
std::string table_with_chains(int chains) {
    std::string ruleset = "table ip t {\n chain p {\n type nat hook prerouting priority -100;\n }\n";
    for (int i = 0; i < chains; ++i) {
        ruleset += " chain " + chain_name(i) + " {\n" + (i == 0 ? "tcp dport 7777 accept\n" : "") + " }\n";
    }
    return ruleset + "}\n";
}

// In how many chains is the rule that is moved about?
int places(const std::vector<RuleTable>& tables) {
    int found = 0;
    for (const auto& table : tables) {
        for (const auto& chain : table.chains) {
            found += static_cast<int>(std::ranges::count_if(chain.rules, [](const Rule& rule) {
                return rule.destination_ports.size() == 1 && rule.destination_ports[0].any_of[0].first == 7777;
            }));
        }
    }
    return found;
}

// Moves the one rule from the first chain to the last and back, each time in one commit.
std::string mover(int chains) {
    const auto there = "flush chain ip t c0; add rule ip t " + chain_name(chains - 1) + " tcp dport 7777 accept";
    const auto back = "flush chain ip t " + chain_name(chains - 1) + "; add rule ip t c0 tcp dport 7777 accept";
    return "while :; do nft '" + there + "'; nft '" + back + "'; done";
}

struct Seen {
    int reads = 0;
    int wrong = 0;
    int failed = 0;
    std::vector<std::uint64_t> versions;
};

Seen read_while_moving(NftReader::Following following) {
    constexpr int chains = 400;
    constexpr int reads = 60;
    constexpr int most_reads = 100'000;
    constexpr std::uint64_t commits = 5;
    return in_fresh_netns([&] {
        feed("nft -f -", table_with_chains(chains));
        Seen seen;
        while_writing(mover(chains), [&] {
            NftReader reader({.following = following});
            // Also as many as it takes until the writer has come to it, however late it is started.
            const auto moved = [&seen] {
                return !seen.versions.empty() && seen.versions.back() >= seen.versions.front() + commits;
            };
            for (int i = 0; i < reads || (!moved() && i < most_reads); ++i) {
                auto read = reader.read_if_new(std::nullopt);
                if (!read || !*read) {
                    ++seen.failed;
                    continue;
                }
                ++seen.reads;
                seen.wrong += places((*read)->content) == 1 ? 0 : 1;
                seen.versions.push_back((*read)->version);
                reader.give_back(std::move((*read)->content));
            }
        });
        return seen;
    });
}

bool same_tables(const std::vector<RuleTable>& one, const std::vector<RuleTable>& other) {
    return std::ranges::equal(one, other, [](const RuleTable& a, const RuleTable& b) {
        return a.name == b.name && a.families == b.families && a.backend == b.backend && a.sets == b.sets &&
               std::ranges::equal(a.chains, b.chains, [](const Chain& c, const Chain& d) {
                   return c.name == d.name && c.hook == d.hook && c.type == d.type && c.priority == d.priority &&
                          c.rules == d.rules;
               });
    });
}

// What it reads now is what a new reader finds.
bool reads_the_truth(NftReader& reader) {
    auto followed = value_of(reader.read_if_new(std::nullopt));
    const bool same = same_tables(followed->content, value_of(read_nf_tables()));
    reader.give_back(std::move(followed->content));
    return same;
}

// How many sockets of the calling thread's namespace get notifications of nf_tables.
int listeners() {
    std::ifstream sockets("/proc/thread-self/net/netlink");
    std::string line;
    std::getline(sockets, line);  // the heading
    int count = 0;
    while (std::getline(sockets, line)) {
        std::istringstream fields(line);
        std::string address;
        int protocol = 0;
        unsigned port = 0;
        unsigned groups = 0;
        fields >> address >> protocol >> port >> std::hex >> groups;
        count += protocol == NETLINK_NETFILTER && (groups & 1U << (NFNLGRP_NFTABLES - 1U)) != 0 ? 1 : 0;
    }
    return count;
}

// One commit.
void add_rules(int count) {
    std::string rules;
    for (int i = 0; i < count; ++i) {
        rules += "add rule ip t c1 tcp dport " + std::to_string(i + 1) + " accept\n";
    }
    feed("nft -f -", rules);
}

struct Heard {
    std::vector<int> listeners;
    bool true_to_it = true;

    void read(NftReader& reader) {
        true_to_it = reads_the_truth(reader) && true_to_it;
        listeners.push_back(::listeners());
    }
};

}  // namespace

TEST_CASE("a rule that is moved while the rules are read is in one place", "[nft_churn]") {
    for (const auto following : {NftReader::Following::no, NftReader::Following::yes}) {
        const auto seen = read_while_moving(following);
        CHECK(seen.failed == 0);
        CHECK(seen.wrong == 0);
        CHECK(std::ranges::is_sorted(seen.versions));
        CHECK(seen.versions.front() != seen.versions.back());
    }
}

TEST_CASE("what follows notifications has what a new reading finds", "[nft_churn]") {
    const auto same = in_fresh_netns([] {
        feed("nft -f -", table_with_chains(20));
        NftReader reader({.following = NftReader::Following::yes});
        std::vector<bool> equal;
        const auto compare = [&] { equal.push_back(reads_the_truth(reader)); };
        compare();
        for (const std::string change : {
                 "add rule ip t c3 jump c4",
                 "insert rule ip t c3 index 0 tcp dport 80 dnat to 10.0.0.1",
                 "rename chain ip t c4 renamed",
                 "flush chain ip t c3; delete chain ip t renamed",
                 "delete chain ip t c5; add chain ip t c5",
                 "add table ip kube-proxy; add map ip kube-proxy ips { type inet_service : verdict; }; add chain ip "
                 "kube-proxy s; add chain ip kube-proxy p { type nat hook prerouting priority -100; }; add rule ip "
                 "kube-proxy s tcp dport vmap { 80 : drop }; add rule ip kube-proxy p tcp dport vmap @ips",
                 "add element ip kube-proxy ips { 80 : jump s, 81 : drop }",
                 "delete element ip kube-proxy ips { 81 }",
                 "flush chain ip kube-proxy s; add rule ip kube-proxy s tcp dport vmap { 82 : accept }",
                 "add table inet other; add chain inet other p { type nat hook output priority 0; }",
                 "delete table ip t",
                 "flush ruleset; add table ip t; add chain ip t p { type nat hook prerouting priority -90; }",
                 "flush ruleset",
             }) {
            run("nft '" + change + "'");
            compare();
        }
        return equal;
    });
    CHECK(std::ranges::count(same, true) == static_cast<std::ptrdiff_t>(same.size()));
}

TEST_CASE("notifications that were lost cost a new reading, not the truth", "[nft_churn]") {
    const auto found = in_fresh_netns([] {
        feed("nft -f -", table_with_chains(10));
        NftReader reader({.following = NftReader::Following::yes});
        reader.give_back(std::move(value_of(reader.read_if_new(std::nullopt))->content));
        // More than the queue of notifications holds.
        std::string rules;
        for (int i = 0; i < 60000; ++i) {
            rules += "add rule ip t c1 tcp dport " + std::to_string(1 + i % 60000) + " accept\n";
        }
        feed("nft -f -", rules + "flush chain ip t c0\n");
        const auto read = value_of(reader.read_if_new(std::nullopt));
        return std::pair(read->content.at(0).find_chain("c1")->rules.size(), places(read->content));
    });
    CHECK(found.first == 60000);
    CHECK(found.second == 1);  // the port of the rule that was moved is among those that were added
}

TEST_CASE("nobody listens while a reading is not outrun", "[nft_churn]") {
    const auto seen = in_fresh_netns([] {
        feed("nft -f -", table_with_chains(100));
        std::atomic<int> most = 0;
        std::atomic<bool> looked = false;
        std::jthread look([&](const std::stop_token& stop) {
            while (!stop.stop_requested()) {
                most = std::max(most.load(), listeners());
                looked = true;
            }
        });
        for (int i = 0; i < 100 || !looked; ++i) {
            value_of(read_nf_tables());
        }
        look.request_stop();
        look.join();
        return most.load();
    });
    CHECK(seen == 0);
}

TEST_CASE("nobody listens where nothing changes", "[nft_churn]") {
    const auto seen = in_fresh_netns([] {
        feed("nft -f -", table_with_chains(10));
        Heard heard;
        NftReader restless({.following = NftReader::Following::yes, .restless = std::chrono::hours(1)});
        heard.read(restless);
        restless.rest();
        heard.listeners.push_back(listeners());
        NftReader reader({.following = NftReader::Following::yes, .restless = std::chrono::milliseconds(0)});
        heard.read(reader);
        reader.rest();
        heard.listeners.push_back(listeners());
        add_rules(1);
        heard.read(reader);
        const auto version = value_of(reader.read_if_new(std::nullopt))->version;
        static_cast<void>(value_of(reader.read_if_new(version)));  // nothing new: the same as rest()
        heard.listeners.push_back(listeners());
        return heard;
    });
    CHECK(seen.listeners == std::vector{1, 1, 2, 1, 2, 1});
    CHECK(seen.true_to_it);
}

TEST_CASE("a table that goes with its owner is gone, though the generation is the same", "[nft_churn]") {
    const auto following = GENERATE(NftReader::Following::no, NftReader::Following::yes);
    const auto seen = in_fresh_netns([following] {
        NftReader reader({.following = following});
        std::FILE* owner = ::popen("nft -i >/dev/null", "w");  // NOLINT(cert-env33-c)
        std::fputs("add table ip t { flags owner; }\nadd chain ip t p { type nat hook prerouting priority -100; }\n",
                   owner);
        std::fflush(owner);
        std::optional<Versioned<std::vector<RuleTable>>> read;
        for (int i = 0; i < 500 && (!read || read->content.empty()); ++i) {
            ::poll(nullptr, 0, 20);
            read = value_of(reader.read_if_new(std::nullopt));
        }
        const auto version = read->version;
        const auto before = read->content.size();
        reader.give_back(std::move(read->content));
        const bool unchanged = !value_of(reader.read_if_new(version)).has_value();
        ::pclose(owner);
        read = value_of(reader.read_if_new(version));
        return std::tuple(before, unchanged, read ? static_cast<int>(read->content.size()) : -1);
    });
    CHECK(seen == std::tuple(1U, true, 0));
}

TEST_CASE("a reading ends when it is told to, and when the ruleset is too large", "[nft_churn]") {
    const auto errors = in_fresh_netns([] {
        feed("nft -f -", table_with_chains(10));
        std::stop_source stop;
        NftReader stopped({.following = NftReader::Following::yes, .stop = stop.get_token()});
        std::vector<int> codes{stopped.read_if_new(std::nullopt) ? 0 : -1};
        stop.request_stop();
        codes.push_back(stopped.read_if_new(std::nullopt).error().code);
        NftReader limited({.limits = {.objects = 5, .bytes = 1U << 20U}});
        codes.push_back(limited.read_if_new(std::nullopt).error().code);
        return codes;
    });
    CHECK(errors == std::vector{0, ECANCELED, EFBIG});
}
