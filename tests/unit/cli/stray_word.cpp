// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch_test_macros.hpp>

#include "cli/options.hpp"

using namespace hptrace;

TEST_CASE("a word that belongs nowhere is an error that says where it would belong") {
    struct Case {
        std::vector<std::string> arguments;
        const char* meant;
    };
    for (const auto& test : std::vector<Case>{
             // A forgotten --, whatever the command's own options mean to hptrace.
             {{"-p", "3306", "mysql", "-h", "10.96.0.10"}, "hptrace -p 3306 -- mysql -h 10.96.0.10)"},
             {{"--port=3306", "mysql", "--help"}, "hptrace '--port=3306' -- mysql --help)"},
             {{"-p3306", "mysql", "--version"}, "hptrace -p3306 -- mysql --version)"},
             {{"trace", "-p", "80", "curl", "-4", "-6", "http://a/"}, "hptrace trace -p 80 -- curl -4 -6 http://a/)"},
             {{"--json", "mysql", "-p"}, "hptrace --json -- mysql -p)"},
             {{"mysql", "-h", "10.96.0.10"}, "hptrace -- mysql -h 10.96.0.10)"},
             {{"-p", "80", "sudo", "--", "curl", "a"}, "hptrace -p 80 -- sudo -- curl a)"},
             {{"--json", "sh", "-c", "echo $HOME; true"}, "hptrace --json -- sh -c 'echo $HOME; true')"},
             {{"--netns", "mysql", "mysql"}, "hptrace --netns mysql -- mysql)"},
             {{"--json", ""}, "hptrace --json -- '')"},
             // Help that was asked for of something else.
             {{"-h", "mysql"}, "hptrace -h -- mysql)"},
             {{"--help", "audit"}, "hptrace audit --help)"},
             // Commands: mistyped, or not in front.
             {{"tracee"}, "hptrace trace)"},
             {{"adit", "--json"}, "hptrace audit --json)"},
             {{"Doctor"}, "hptrace doctor)"},
             {{"-p", "3306", "audit"}, "hptrace audit -p 3306)"},
             {{"--json", "doctor", "-h"}, "hptrace doctor --json -h)"},
             // Values without their option.
             {{"3306"}, "hptrace --port 3306)"},
             {{"-p", "80", "443"}, "hptrace -p 80 --port 443)"},
             {{"audit", "node-2"}, "hptrace audit --from node-2)"},
             {{"audit", "-p", "80", "node-2", "--json", "--help"}, "hptrace audit -p 80 --from node-2 --json --help)"},
             {{"audit", "3306"}, "hptrace audit --port 3306)"},
             {{"doctor", "here"}, "see hptrace --help)"},
             {{"doctor", "here", "--help"}, "see hptrace --help)"},
         }) {
        const auto command = parse_command_line(test.arguments);
        CAPTURE(test.arguments);
        REQUIRE_FALSE(command);
        const auto text = describe(command.error());
        CAPTURE(text);
        CHECK(text.ends_with(test.meant));
        CHECK(text.find('\n') == std::string::npos);
    }
}

TEST_CASE("what follows an option that does not exist can be its value") {
    const auto command = parse_command_line({"--prot", "tcp"});
    REQUIRE_FALSE(command);
    CHECK(describe(command.error()) == "unknown option --prot (see hptrace --help)");
}

TEST_CASE("help is help beside other options, right or wrong") {
    for (const auto& arguments : std::vector<std::vector<std::string>>{
             {"-p", "3306", "--help"}, {"--help", "-4", "-6"}, {"--nonsense", "-h"}, {"-h", "--", "mysql"}}) {
        CAPTURE(arguments);
        const auto command = parse_command_line(arguments);
        REQUIRE(command);
        CHECK(std::holds_alternative<PrintText>(*command));
    }
}
