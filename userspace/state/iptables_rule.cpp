// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/iptables_rule.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "state/iptables_values.hpp"
#include "state/xt_decode.hpp"

namespace hptrace {
namespace {

class RuleParser {
public:
    RuleParser(std::span<const Word> words, Family family, const std::function<bool(std::string_view)>& is_chain)
        : words_(words), family_(family), is_chain_(is_chain) {}

    Rule parse() && {
        while (at_ < words_.size()) {
            const std::size_t begin = at_;
            const bool inverted = is_word("!");
            at_ += inverted ? 1 : 0;
            const bool quoted = at_ < words_.size() && words_[at_].quoted;
            const std::string_view option = argument().value_or("");
            if (quoted || (!general_option(option, inverted) && !match_option(option, inverted))) {
                unread_from(begin);
            }
        }
        finish_match();
        return std::move(rule_);
    }

private:
    [[nodiscard]] bool is_word(std::string_view text) const {
        return at_ < words_.size() && !words_[at_].quoted && words_[at_].text == text;
    }
    [[nodiscard]] bool at_extension() const { return is_word("-m") || is_word("-j") || is_word("-g"); }

    // The next word, whatever it is.
    std::optional<std::string_view> argument() {
        return at_ < words_.size() ? std::optional<std::string_view>(words_[at_++].text) : std::nullopt;
    }

    void skip_options() {
        while (at_ < words_.size() && !at_extension()) {
            ++at_;
        }
    }

    // What this option and those behind it demand is not known.
    void unread_from(std::size_t begin) {
        skip_options();
        std::string text = match_.empty() ? std::string() : "-m " + match_;
        for (; begin < at_; ++begin) {
            text += (text.empty() ? "" : " ") + words_[begin].text;
        }
        rule_.unread.push_back(std::move(text));
    }

    // Options of the rule itself. False: it is none, or its value is not understood.
    bool general_option(std::string_view option, bool inverted) {
        if (option == "-m") {
            begin_match(argument().value_or(""));
            return true;
        }
        if (option == "-j" || option == "-g") {
            finish_match();
            target(argument().value_or(""), option == "-g");
            return true;
        }
        if (option == "-s" || option == "-d") {
            return prefix(option == "-s" ? rule_.sources : rule_.destinations, inverted);
        }
        if (option == "-i" || option == "-o") {
            auto& interface = option == "-i" ? rule_.in_interface : rule_.out_interface;
            interface = {std::string(argument().value_or("")), inverted};
            return !interface->value.empty();
        }
        if (option == "-p") {
            const auto number = protocol_number(argument().value_or(""));
            if (number) {
                rule_.l4proto = {*number, inverted};
            }
            return number.has_value();
        }
        if (option == "-f") {
            rule_.conditions.emplace_back(inverted ? "! -f" : "-f");
            return true;
        }
        return false;
    }

    bool prefix(std::vector<Match<Prefix>>& prefixes, bool inverted) {
        const auto masked = parse_masked(argument().value_or(""), family_);
        if (!masked) {
            return false;
        }
        if (!masked->length) {
            rule_.unread.emplace_back("address mask with holes");
        } else if (*masked->length != 0 || inverted) {
            prefixes.push_back({Prefix{.address = masked->address, .length = *masked->length}, inverted});
        }
        return true;
    }

    void begin_match(std::string_view name) {
        finish_match();
        match_ = name;
        if (is_xt_condition(name)) {
            rule_.conditions.push_back(fmt::format("-m {}", name));
            skip_options();
        } else if (std::ranges::find(matches, name, &MatchOptions::match) == matches.end()) {
            rule_.unread.emplace_back(name);
            skip_options();
        }
    }

    // What is said of a match once all of its options are known.
    void finish_match() {
        if (!ports_condition_.empty()) {
            rule_.conditions.push_back(std::exchange(ports_condition_, {}));
        }
        for (auto* types : {&source_types_, &destination_types_}) {
            if (!types->empty()) {
                rule_.conditions.push_back(std::exchange(*types, {}));
            }
        }
        if (std::exchange(limit_interface_, false)) {
            rule_.conditions.emplace_back("-m addrtype --limit-iface");
        }
        match_.clear();
    }

    bool match_option(std::string_view option, bool inverted) {
        const auto* const known = std::ranges::find(matches, match_, &MatchOptions::match);
        return known != matches.end() && (this->*known->parse)(option, inverted);
    }

    bool comment(std::string_view option, bool inverted) {
        if (option != "--comment" || inverted) {
            return false;
        }
        rule_.comment = argument().value_or("");
        return true;
    }

    // tcp, udp and sctp.
    bool ports(std::string_view option, bool inverted) {
        if (option == "--sport" || option == "--dport") {
            const auto range = parse_port_range(argument().value_or(""), ':');
            if (range && (*range != PortRange{} || inverted)) {  // 0:65535 is how "any port" is written
                (option == "--sport" ? rule_.source_ports : rule_.destination_ports).push_back({{*range}, inverted});
            }
            return range.has_value();
        }
        const bool two_arguments =
            (match_ == "tcp" && option == "--tcp-flags") || (match_ == "sctp" && option == "--chunk-types");
        if (!two_arguments && (match_ != "tcp" || option != "--tcp-option")) {
            return false;
        }
        ports_condition_ = match_ == "tcp" ? "-m tcp (flags or options)" : "-m sctp (chunk types)";
        return argument() && (!two_arguments || argument());
    }

    bool multiport(std::string_view option, bool inverted) {
        PortMatch match{.any_of = {}, .inverted = inverted};
        for (const auto part : split(argument().value_or(""), ',')) {
            const auto range = parse_port_range(part, ':');
            if (!range) {
                return false;
            }
            match.any_of.push_back(*range);
        }
        if (option == "--ports") {
            rule_.unread.emplace_back("multiport --ports");
            return true;
        }
        if (option != "--sports" && option != "--dports") {
            return false;
        }
        (option == "--sports" ? rule_.source_ports : rule_.destination_ports).push_back(std::move(match));
        return true;
    }

    bool addrtype(std::string_view option, bool inverted) {
        if (option == "--limit-iface-in" || option == "--limit-iface-out") {
            limit_interface_ = true;
            return !inverted;
        }
        const bool source = option == "--src-type";
        if (!source && option != "--dst-type") {
            return false;
        }
        const auto types = parse_address_types(argument().value_or(""));
        if (!types) {
            return false;
        }
        if (*types == local_address_type) {
            (source ? rule_.source_local : rule_.destination_local) = !inverted;
        } else {
            (source ? source_types_ : destination_types_) =
                fmt::format("-m addrtype {}{} {:#x}", inverted ? "! " : "", option, *types);
        }
        return true;
    }

    bool mark(std::string_view option, bool inverted) {
        const std::string_view value = argument().value_or("");
        const auto slash = value.find('/');
        const auto mark = to_number<std::uint32_t>(value.substr(0, slash));
        const auto mask =
            slash == std::string_view::npos ? 0xffffffffU : to_number<std::uint32_t>(value.substr(slash + 1));
        if (option != "--mark" || !mark || !mask) {
            return false;
        }
        rule_.conditions.push_back(fmt::format("-m mark {}--mark {:#x}/{:#x}", inverted ? "! " : "", *mark, *mask));
        return true;
    }

    bool set(std::string_view option, bool inverted) {
        // They change what is counted, not what matches as far as Services are concerned.
        if (option == "--return-nomatch" || option == "--update-counters" || option == "--update-subcounters") {
            return true;
        }
        if (option.starts_with("--packets-") || option.starts_with("--bytes-")) {
            return argument().has_value();
        }
        Match<SetMatch> match{.value = {.set = std::string(argument().value_or("")), .source = {}},
                              .inverted = inverted};
        for (const auto direction : split(argument().value_or(""), ',')) {
            if (direction != "src" && direction != "dst") {
                return false;
            }
            match.value.source.push_back(direction == "src");
        }
        if (option != "--match-set") {
            return false;
        }
        rule_.sets.push_back(std::move(match));
        return true;
    }

    void target(std::string_view name, bool go_to) {
        if (go_to) {
            rule_.target = {TargetKind::go_to, std::string(name), {}, {}};
        } else if (name == "ACCEPT" || name == "DROP" || name == "RETURN") {
            const auto kind = name == "ACCEPT" ? TargetKind::accept
                              : name == "DROP" ? TargetKind::drop
                                               : TargetKind::return_;
            rule_.target = {kind, std::string(name), {}, {}};
        } else if (is_chain_(name)) {
            rule_.target = {TargetKind::jump, std::string(name), {}, {}};
        } else {
            rule_.target = {xt_target_kind(name), std::string(name), {}, {}};
        }
        nat_options();
        at_ = words_.size();  // options of the target are the last ones
    }

    void nat_options() {
        const TargetKind kind = rule_.target.kind;
        if (kind != TargetKind::dnat && kind != TargetKind::snat && kind != TargetKind::redirect) {
            return;
        }
        std::optional<NatRange> parsed;
        if (is_word("--to-ports") && kind == TargetKind::redirect) {
            ++at_;
            parsed = parse_nat_ports(argument().value_or(""), family_);
        } else if (is_word(kind == TargetKind::dnat ? "--to-destination" : "--to-source")) {
            ++at_;
            parsed = parse_nat_range(argument().value_or(""), family_);
        } else if (kind == TargetKind::redirect) {
            parsed = unchanged(family_);  // to the port it was for
        }
        if (!parsed) {
            rule_.unread.push_back(fmt::format("{} to what is not understood", rule_.target.name));
            return;
        }
        rule_.target.to = parsed->first;
        if (parsed->last != parsed->first) {
            rule_.target.to_last = parsed->last;
        }
    }

    struct MatchOptions {
        std::string_view match;
        bool (RuleParser::*parse)(std::string_view option, bool inverted);
    };
    static const std::array<MatchOptions, 8> matches;

    std::span<const Word> words_;
    Family family_;
    const std::function<bool(std::string_view)>& is_chain_;
    std::size_t at_ = 0;
    Rule rule_;
    // Of the match whose options are being read.
    std::string match_;
    std::string ports_condition_;
    std::string source_types_;
    std::string destination_types_;
    bool limit_interface_ = false;
};

const std::array<RuleParser::MatchOptions, 8> RuleParser::matches{{
    {"comment", &RuleParser::comment},
    {"tcp", &RuleParser::ports},
    {"udp", &RuleParser::ports},
    {"sctp", &RuleParser::ports},
    {"multiport", &RuleParser::multiport},
    {"addrtype", &RuleParser::addrtype},
    {"mark", &RuleParser::mark},
    {"set", &RuleParser::set},
}};

}  // namespace

Rule parse_iptables_rule(std::span<const Word> words, Family family,
                         const std::function<bool(std::string_view)>& is_chain) {
    return RuleParser(words, family, is_chain).parse();
}

}  // namespace hptrace
