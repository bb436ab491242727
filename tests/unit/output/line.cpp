// SPDX-License-Identifier: GPL-2.0-or-later
#include "output/line.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>

#include "output/journal_socket.hpp"
#include "output/samples.hpp"

using namespace hptrace;
using namespace hptrace::test;

namespace {

// ESC, C1 as a byte and in UTF-8, bidirectional controls, line ends, DEL, NUL, what is no UTF-8.
const std::string evil(
    "\x1b[2J\x9b"
    "31m\xc2\x9b\xe2\x80\xae\xe2\x81\xa6\r\n\t\x7f\0\xff",
    22);

bool is_harmless(std::string_view text) {
    return std::ranges::all_of(text, [](char c) { return (c >= 0x20 && c < 0x7f) || c == '\n'; });
}

}  // namespace

TEST_CASE("whatever is put into a line is harmless in it; colour is not text") {
    Line line;
    line.add("a\x1b[31m").pad_to(12).add("b\n", Paint::alarm);
    CHECK(line.bytes() == "a\\x1b[31m   \x1b[1;31mb\\x0a\x1b[0m");
    CHECK(line.width() == 17);
    CHECK(Line("x").pad_to(1).bytes() == "x");
    CHECK(Line(std::string("\x1b")).bytes() == "\\x1b");
    CHECK(is_harmless(Line(evil).bytes()));
}

TEST_CASE("nothing that is told gets to a terminal as it is, whatever it is a part of") {
    Finding shown = hijack();
    shown.service->name = ServiceName{evil, evil, evil};
    shown.rule->chain = shown.rule->entry_chain = shown.rule->network = shown.rule->text = shown.rule->container_id =
        evil;
    shown.client_pod = shown.rewritten_pod = shown.rule_pod = Pod{evil, evil};
    shown.reason = shown.unknown_why = shown.conflict_id = evil;
    shown.connection.process = Process{1, evil};
    auto predicted = conflict(ipvs_node(Backend::iptables_nft));
    predicted.service = *shown.service;
    predicted.rule = *shown.rule;
    predicted.rule_pod.reset();
    predicted.reason = evil;
    auto depends = predicted;
    depends.winner = Winner::depends;
    depends.depends_on = evil;
    for (const bool json : {false, true}) {
        const Paper paper;
        Writer writer(paper.fd());
        const auto output = json ? make_json_output(writer, {.node = evil, .version = evil, .netns = 7})
                                 : make_text_output(writer, {.colour = false, .netns = 7});
        Beginning beginning;
        beginning.node = evil;
        beginning.unread_sources = beginning.doubts = {evil};
        beginning.sources = {{evil, {SourceState::unreadable, evil}}};
        output->begin(beginning);
        output->conflict(predicted);
        output->conflict(depends);
        output->conflict_ended(predicted);
        output->leaked({*shown.rule, LeftOver::yes});
        output->leaked({*shown.rule, LeftOver::perhaps});
        output->connection(shown);
        shown.verdict = Verdict::unknown;
        output->connection(shown);
        shown.verdict = Verdict::hijacked;
        output->lost({evil, 1});
        output->gap({1, 2, evil});
        output->unread({evil});
        Summary summary;
        summary.unread_sources = {evil};
        output->summary(summary);
        AuditSummary audited;
        audited.unread_sources = audited.doubts = {evil};
        output->audited(audited);
        print_audit(writer, {predicted, depends}, {{*shown.rule, LeftOver::yes}, {*shown.rule, LeftOver::perhaps}});
        INFO(paper.text());
        CHECK(is_harmless(paper.text()));
        CHECK(paper.text().find("[2J") != std::string::npos);
    }
    JournalEntry entry(JournalEntry::Priority::notice, "0123", evil);
    entry.add("FIELD", evil);
    CHECK(is_harmless(entry.data()));
    CHECK(std::ranges::count(entry.data(), '\n') == 5);
}
