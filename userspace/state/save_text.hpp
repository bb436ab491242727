// SPDX-License-Identifier: GPL-2.0-or-later
// Pieces of the text that iptables-save, ipvsadm-save and ipset save print.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.hpp"
#include "base/error.hpp"
#include "base/number.hpp"

namespace hptrace {

struct Word {
    std::string text;
    bool quoted = false;  // it stood in quotes: never an option, whatever it looks like
};

// The words of a line: separated by blanks, or in double quotes with \" \\ \' inside (xtables_save_string()).
// Error: a quote that is not closed.
Result<std::vector<Word>> split_words(std::string_view line);

// Longer than any line that the tools print: a match of iptables may hold a program of some kilobytes.
constexpr std::size_t longest_line = std::size_t{64} << 10U;

// Calls `handle` for each line that is neither empty nor a comment. An error of it, or a line that is too long, ends
// the walk, with the line's number in front.
Result<void> for_each_line(std::string_view text, const std::function<Result<void>(std::string_view)>& handle);

// Number of a protocol as iptables-save and nft name it ("tcp", "ipv6-icmp", "47"); nothing: not known here.
std::optional<std::uint8_t> protocol_number(std::string_view name);

// The whole text as a decimal number, or a hexadecimal one behind "0x"; nothing if it is none or does not fit.
template <class T>
std::optional<T> to_number(std::string_view text) {
    int base = 10;
    if (text.starts_with("0x")) {
        text.remove_prefix(2);
        base = 16;
    }
    return parse_number<T>(text, base);
}

// "80", or "80<separator>90" with the smaller port first.
std::optional<PortRange> parse_port_range(std::string_view text, char separator);

// The parts of `text` between separators; one part if there is none.
std::vector<std::string_view> split(std::string_view text, char separator);

}  // namespace hptrace
