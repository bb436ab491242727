// SPDX-License-Identifier: GPL-2.0-or-later
#include "output/journal.hpp"

#include <catch2/catch_test_macros.hpp>
#include <fstream>
#include <sstream>

#include "datagram_receiver.hpp"
#include "output/samples.hpp"
#include "temporary_folder.hpp"

using namespace hptrace;
using namespace hptrace::test;
using namespace std::chrono_literals;
using namespace std::string_literals;

namespace {

// A journald that is there or not, and hptrace's output to it. What time it is, is up to the test.
class Journal {
public:
    Journal() : path_((folder_.path() / "socket").string()), socket_(path_) { start(); }

    void start() { journald_.emplace(path_); }
    void stop() { journald_.reset(); }
    // A run of hptrace.
    Output& run() {
        auto reported = Reported::open(folder_.path() / "reported");
        REQUIRE(reported);
        output_ = make_journal_output(
            socket_, *std::move(reported),
            {.repeat = 60s, .netns = 1, .boot_ns = [this] { return now_ns; }, .clock_offset = fixed_offset});
        return *output_;
    }
    void pass(std::chrono::nanoseconds time) {
        now_ns += static_cast<std::uint64_t>(time.count());
        output_->turn({});
    }
    // Entries since the last call, each as "PRIORITY MESSAGE_ID FIELD", FIELD: of this name.
    std::vector<std::string> entries(const std::string& name) {
        std::vector<std::string> found;
        while (const auto entry = journald_->next()) {
            found.push_back(field(*entry, "PRIORITY") + " " + field(*entry, "MESSAGE_ID") + " " + field(*entry, name));
        }
        return found;
    }
    std::optional<std::string> next() { return journald_->next(); }
    JournalSocket& socket() { return socket_; }

    static std::string field(const std::string& entry, const std::string& name) {
        std::istringstream lines(entry);
        for (std::string line; std::getline(lines, line);) {
            if (line.starts_with(name + "=")) {
                return line.substr(name.size() + 1);
            }
        }
        return "-";
    }

    std::uint64_t now_ns = 1'000'000'000;

private:
    TemporaryFolder folder_;
    std::string path_;
    JournalSocket socket_;
    std::optional<DatagramReceiver> journald_;
    std::unique_ptr<Output> output_;
};

std::string told(const char* priority, const char* id, const char* value) {
    return std::string(priority) + " " + id + " " + value;
}

using Entries = std::vector<std::string>;

}  // namespace

TEST_CASE("an entry is in journald's own format") {
    JournalEntry entry(JournalEntry::Priority::notice, "0123", "hello");
    entry.add("EMPTY", "").add("LINES", "a\nb").add("NUMBER", std::uint64_t{7});
    CHECK(entry.data() ==
          "MESSAGE=hello\nPRIORITY=5\nMESSAGE_ID=0123\nSYSLOG_IDENTIFIER=hptrace\n"
          "LINES=a\\x0ab\nNUMBER=7\n"s);
}

TEST_CASE("a hijack is told at once, then how often") {
    Journal journal;
    auto& output = journal.run();
    const auto found = hijack();
    output.connection(found);
    CHECK(journal.entries("HPTRACE_COUNT") == Entries{told("4", message_id::hijacked, "1")});
    for (int i = 0; i < 41; ++i) {
        output.connection(found);
    }
    journal.pass(59s);
    CHECK(journal.entries("HPTRACE_COUNT").empty());
    journal.pass(1s);
    CHECK(journal.entries("HPTRACE_COUNT") == Entries{told("5", message_id::hijacked, "41")});
    journal.pass(600s);
    CHECK(journal.entries("HPTRACE_COUNT").empty());
    output.connection(found);
    output.summary({});
    CHECK(journal.entries("HPTRACE_COUNT") ==
          Entries{told("5", message_id::hijacked, "1"), told("6", message_id::stopped, "-")});
}

TEST_CASE("what is fine is not told") {
    Journal journal;
    auto& output = journal.run();
    auto scheduled = connection("10.96.0.10:3306", "10.224.0.224:3306");
    scheduled.mechanism = Mechanism::ip_vs;
    output.connection(finding(scheduled, ipvs_node(Backend::iptables_nft)));
    output.connection(finding(connection("192.168.0.2:3306", "10.224.0.222:3306"), ipvs_node(Backend::iptables_nft)));
    CHECK(journal.entries("MESSAGE").empty());
}

TEST_CASE("an entry has the fields people look for") {
    Journal journal;
    auto& output = journal.run();
    auto found = hijack();
    found.service->name = ServiceName{"default", "mysql-a", "mysql"};
    found.rule_pod = Pod{"default", "mysql\nb"};  // a name cannot forge another field
    output.connection(found);
    const auto entry = journal.next();
    REQUIRE(entry);
    const auto is = [&](const char* name, const std::string& value) {
        INFO(name);
        CHECK(Journal::field(*entry, name) == value);
    };
    is("HPTRACE_VERDICT", "hijacked");
    is("HPTRACE_REASON_CODE", std::string(to_string(*found.reason_code)));
    is("HPTRACE_CONFLICT_ID", found.conflict_id);
    is("HPTRACE_ORIGINAL_IP", "10.96.0.10");
    is("HPTRACE_ORIGINAL_PORT", "3306");
    is("HPTRACE_REWRITTEN_IP", "10.224.0.222");
    is("HPTRACE_REWRITTEN_PORT", "3306");
    is("HPTRACE_CLIENT_IP", to_string(found.connection.client.ip));
    is("HPTRACE_SERVICE", "default/mysql-a");
    is("HPTRACE_POD", "default/mysql\\x0ab");
    is("HPTRACE_RULE_CHAIN", found.rule->chain);
    is("SYSLOG_IDENTIFIER", "hptrace");
}

TEST_CASE("after a restart what was reported is marked, what ended meanwhile is said") {
    Journal journal;
    const auto known = conflict(ipvs_node(Backend::iptables_nft));
    auto other = known;
    other.conflict_id = "c-0ther";
    {
        auto& first = journal.run();
        first.conflict(known);
        first.conflict(other);
        first.tracing("fexit");
        first.connection(hijack());
        CHECK(journal.entries("HPTRACE_REPORTED_BEFORE") ==
              Entries{told("4", message_id::conflict, "-"), told("4", message_id::conflict, "-"),
                      told("6", message_id::started, "-"), told("4", message_id::hijacked, "-")});
    }
    auto& second = journal.run();
    second.conflict(known);
    second.tracing("fexit");
    second.connection(hijack());
    CHECK(journal.entries("HPTRACE_REPORTED_BEFORE") ==
          Entries{told("5", message_id::conflict, "1"), told("6", message_id::started, "-"),
                  told("5", message_id::conflict_ended, "-"), told("5", message_id::hijacked, "1")});
    second.conflict_ended(known);
    second.conflict(known);  // and comes again
    second.connection(hijack());
    CHECK(journal.entries("HPTRACE_REPORTED_BEFORE") == Entries{told("5", message_id::conflict_ended, "-"),
                                                                told("4", message_id::conflict, "-"),
                                                                told("4", message_id::hijacked, "-")});
}

TEST_CASE("what an absent journald misses comes later, in order; what exceeds the bound is counted") {
    Journal journal;
    journal.stop();
    auto& output = journal.run();
    const JournalEntry large(JournalEntry::Priority::info, "0", std::string(10'000, 'x'));
    output.conflict(conflict(ipvs_node(Backend::iptables_nft)));
    output.lost({"ring_buffer", 5});
    CHECK(journal.socket().waiting() == 2);
    CHECK(journal.socket().problem() == ENOENT);
    const auto fit = JournalSocket::most_kept_bytes / large.data().size();
    for (std::size_t i = 0; i < fit + 10; ++i) {
        journal.socket().send(large);
    }
    CHECK(journal.socket().dropped() >= 10);
    journal.start();
    std::size_t count = 0;
    for (int turn = 0; turn < 1000 && journal.socket().waiting() > 0; ++turn) {
        journal.pass(50ms);  // its queue is short
        while (const auto entry = journal.next()) {
            ++count;
            CHECK((count != 1 || Journal::field(*entry, "MESSAGE_ID") == message_id::conflict));
            CHECK((count != 2 || Journal::field(*entry, "MESSAGE_ID") == message_id::lost));
        }
    }
    CHECK(count + journal.socket().dropped() == 2 + fit + 10);
}

TEST_CASE("a journald that does not read is not waited for") {
    Journal journal;
    journal.run();
    const JournalEntry entry(JournalEntry::Priority::info, "0", "x");
    for (int i = 0; i < 5000; ++i) {
        journal.socket().send(entry);
    }
    CHECK(journal.socket().waiting() > 0);
    CHECK(journal.socket().problem() == EAGAIN);
}

TEST_CASE("a file that cannot be written is said once, and nothing else changes") {
    Journal journal;
    const TemporaryFolder folder;
    auto reported = Reported::open(folder.path() / "absent" / "reported");
    REQUIRE(reported);
    const auto output = make_journal_output(journal.socket(), *std::move(reported), {});
    auto predicted = conflict(ipvs_node(Backend::iptables_nft));
    output->conflict(predicted);
    predicted.conflict_id = "c-0ther";
    output->conflict(predicted);
    CHECK(journal.entries("HPTRACE_WINNER").size() == 3);
}

TEST_CASE("the catalog explains every kind of entry") {
    std::ifstream file(HPTRACE_CATALOG);
    std::ostringstream text;
    text << file.rdbuf();
    for (const auto* id : {message_id::started, message_id::stopped, message_id::conflict, message_id::conflict_ended,
                           message_id::hijacked, message_id::rewritten, message_id::lost, message_id::gap,
                           message_id::unread, message_id::leaked}) {
        INFO(id);
        CHECK(text.str().find(std::string("-- ") + id + "\nSubject: ") != std::string::npos);
    }
}
