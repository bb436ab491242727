// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/shell.hpp"

#include <unistd.h>

#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

using namespace hptrace;

namespace {

// The words bash reads, one a line.
std::string read_by_bash(const std::string& words) {
    ::setenv("WORDS", words.c_str(), 1);
    const std::unique_ptr<FILE, int (*)(FILE*)> pipe(
        ::popen(R"(exec bash -c 'eval "set -- $WORDS"; printf "[%s]\n" "$@"')", "r"), ::pclose);
    REQUIRE(pipe);
    std::string text;
    std::array<char, 4096> part{};
    for (std::size_t count = 0; (count = std::fread(part.data(), 1, part.size(), pipe.get())) > 0;) {
        text.append(part.data(), count);
    }
    return text;
}

}  // namespace

TEST_CASE("what means nothing to a shell stays as it is", "[shell]") {
    for (const auto* plain : {"CNI-DN-bd8e9ce301851b7745b41", "nat", "10.0.0.1:80", "a_b/c@d+e%f,g"}) {
        CHECK(shell_quote(plain) == plain);
    }
    CHECK(shell_command({"iptables", "-t", "nat", "-F", "A B"}) == "iptables -t nat -F 'A B'");
    CHECK(shell_quote("") == "''");
}

TEST_CASE("a shell reads back what was quoted, whatever it is", "[shell]") {
    for (const std::string word : {"$(reboot)",
                                   "`reboot`",
                                   "$HOME",
                                   "a;b",
                                   "a&b",
                                   "a|b",
                                   "a>b",
                                   "it's",
                                   "\"",
                                   "\\",
                                   "\\n",
                                   "!x",
                                   "~",
                                   "~root",
                                   "a=b",
                                   "#c",
                                   "*",
                                   "?",
                                   "[a]",
                                   "{a,b}",
                                   " ",
                                   "'",
                                   "''",
                                   "\x1b[31m",
                                   "a\tb",
                                   "\xff\xfe",
                                   "\x01"
                                   "23",
                                   "\xe2\x80\xae"
                                   "x",
                                   "'\x1b\\'"}) {
        INFO(shell_quote(word));
        CHECK(read_by_bash(shell_quote(word)) == "[" + word + "]\n");
        for (const char character : shell_quote(word)) {
            CHECK((character >= 0x20 && character < 0x7f));
        }
    }
    CHECK(read_by_bash(shell_command({"a\nb", "c d"})) == "[a\nb]\n[c d]\n");
}
