// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/rule_text.hpp"

#include <fmt/format.h>
#include <netinet/in.h>

#include <optional>

namespace hptrace {
namespace {

std::string protocol_name(std::uint8_t number) {
    if (const auto protocol = protocol_from_number(number)) {
        return std::string(to_string(*protocol));
    }
    switch (number) {
        case IPPROTO_ICMP:
            return "icmp";
        case IPPROTO_ICMPV6:
            return "ipv6-icmp";
        default:
            return std::to_string(number);
    }
}

std::string range_text(PortRange range, char separator) {
    return range.first == range.last ? fmt::format("{}", range.first)
                                     : fmt::format("{}{}{}", range.first, separator, range.last);
}

std::string ranges_text(const PortMatch& match, char separator) {
    std::string text;
    for (const PortRange& range : match.any_of) {
        text += (text.empty() ? "" : ",") + range_text(range, separator);
    }
    return text;
}

std::string quoted(std::string_view comment) {
    std::string text = "\"";
    for (const char character : comment) {
        if (character == '"' || character == '\\') {
            text += '\\';
        }
        text += character;
    }
    return text + '"';
}

// "10.0.0.1:80", "10.0.0.1-10.0.0.4:80-90", ":80", "10.0.0.1".
std::string nat_text(const Target& target) {
    if (!target.to) {
        return {};
    }
    const Endpoint& first = *target.to;
    const Endpoint last = target.to_last.value_or(first);
    std::string text;
    if (!first.ip.is_unspecified()) {
        text = to_string(first.ip);
        if (last.ip != first.ip) {
            text += '-' + to_string(last.ip);
        }
        if (first.ip.family == Family::ipv6 && first.port != 0) {
            text = '[' + text + ']';
        }
    }
    if (first.port != 0) {
        text += ':' + range_text({first.port, last.port}, '-');
    }
    return text;
}

// "goto chain", "drop", "10.0.0.1 . 80".
std::string data_text(SetData data, const SetElement& element) {
    if (data != SetData::verdict) {
        return to_string(element.to.ip) +
               (data == SetData::address_and_port ? fmt::format(" . {}", element.to.port) : std::string());
    }
    switch (element.verdict) {
        case TargetKind::jump:
            return "jump " + element.chain;
        case TargetKind::go_to:
            return "goto " + element.chain;
        case TargetKind::accept:
            return "accept";
        case TargetKind::return_:
            return "return";
        default:
            return "drop";
    }
}

std::string field_text(LookupField field, Family family) {
    const auto* const header = family == Family::ipv4 ? "ip" : "ip6";
    switch (field) {
        case LookupField::source_address:
            return fmt::format("{} saddr", header);
        case LookupField::destination_address:
            return fmt::format("{} daddr", header);
        case LookupField::protocol:
            return "meta l4proto";
        case LookupField::source_port:
            return "th sport";
        case LookupField::destination_port:
            return "th dport";
        case LookupField::any:
            return "numgen";
        case LookupField::other:
            break;
    }
    return "?";
}

// "ip daddr . th dport map @name", "numgen vmap { goto one, goto other }".
std::string lookup_text(const MapLookup& lookup) {
    std::string text;
    for (const LookupField field : lookup.key) {
        text += (text.empty() ? "" : " . ") + field_text(field, lookup.family);
    }
    text += lookup.data == SetData::verdict ? " vmap " : " map ";
    if (!lookup.map.empty()) {
        return text + '@' + lookup.map;
    }
    std::string elements;
    for (const SetElement& element : lookup.elements) {
        elements += (elements.empty() ? "" : ", ") + data_text(lookup.data, element);
    }
    return fmt::format("{}{{ {} }}", text, elements);
}

// Words in the order iptables-save prints them.
class IptablesText {
public:
    IptablesText(std::string_view chain, const Rule& rule) : rule_(rule), text_(fmt::format("-A {}", chain)) {}

    std::string text() && {
        prefixes("-s", rule_.sources);
        prefixes("-d", rule_.destinations);
        interface("-i", rule_.in_interface);
        interface("-o", rule_.out_interface);
        if (rule_.l4proto) {
            option(rule_.l4proto->inverted, "-p", protocol_name(rule_.l4proto->value));
        }
        if (!rule_.comment.empty()) {
            text_ += " -m comment --comment " + quoted(rule_.comment);
        }
        ports("sport", rule_.source_ports);
        ports("dport", rule_.destination_ports);
        if (rule_.source_local || rule_.destination_local) {
            text_ += " -m addrtype";
            local("--src-type", rule_.source_local);
            local("--dst-type", rule_.destination_local);
        }
        for (const auto& match : rule_.sets) {
            std::string flags;
            for (const bool source : match.value.source) {
                flags += flags.empty() ? "" : ",";
                flags += source ? "src" : "dst";
            }
            text_ += fmt::format(" -m set {}--match-set {} {}", match.inverted ? "! " : "", match.value.set, flags);
        }
        for (const auto& condition : rule_.conditions) {
            text_ += ' ' + condition;
        }
        for (const auto& unread : rule_.unread) {
            text_ += fmt::format(" [{}]", unread);
        }
        target();
        return std::move(text_);
    }

private:
    void option(bool inverted, std::string_view name, std::string_view value) {
        text_ += fmt::format(" {}{} {}", inverted ? "! " : "", name, value);
    }
    void prefixes(std::string_view name, const std::vector<Match<Prefix>>& matches) {
        for (const auto& match : matches) {
            option(match.inverted, name, to_string(match.value));
        }
    }
    void interface(std::string_view name, const std::optional<Match<std::string>>& match) {
        if (match) {
            option(match->inverted, name, match->value);
        }
    }
    void ports(std::string_view name, const std::vector<PortMatch>& matches) {
        for (const auto& match : matches) {
            const bool several = match.any_of.size() > 1;
            text_ +=
                fmt::format(" -m {}", several || !rule_.l4proto ? "multiport" : protocol_name(rule_.l4proto->value));
            option(match.inverted, fmt::format("--{}{}", name, several ? "s" : ""), ranges_text(match, ':'));
        }
    }
    void local(std::string_view name, const std::optional<bool>& match) {
        if (match) {
            option(!*match, name, "LOCAL");
        }
    }
    void target() {
        const Target& target = rule_.target;
        if (target.kind == TargetKind::none) {
            return;
        }
        text_ += fmt::format(" {} {}", target.kind == TargetKind::go_to ? "-g" : "-j", target.name);
        const std::string to = nat_text(target);
        if (to.empty()) {
            return;
        }
        if (target.kind == TargetKind::dnat) {
            text_ += " --to-destination " + to;
        } else if (target.kind == TargetKind::snat) {
            text_ += " --to-source " + to;
        } else if (target.kind == TargetKind::redirect) {
            text_ += " --to-ports " + to.substr(1);
        }
    }

    const Rule& rule_;
    std::string text_;
};

class NftText {
public:
    explicit NftText(const Rule& rule) : rule_(rule) {}

    std::string text() && {
        interface("iifname", rule_.in_interface);
        interface("oifname", rule_.out_interface);
        prefixes("saddr", rule_.sources);
        prefixes("daddr", rule_.destinations);
        local("saddr", rule_.source_local);
        local("daddr", rule_.destination_local);
        const bool any_ports = !rule_.source_ports.empty() || !rule_.destination_ports.empty();
        const bool named = rule_.l4proto && !rule_.l4proto->inverted && protocol_from_number(rule_.l4proto->value);
        if (rule_.l4proto && !(any_ports && named)) {
            word(fmt::format("meta l4proto {}{}", rule_.l4proto->inverted ? "!= " : "",
                             protocol_name(rule_.l4proto->value)));
        }
        const std::string header = named ? protocol_name(rule_.l4proto->value) : "th";
        ports(header + " sport", rule_.source_ports);
        ports(header + " dport", rule_.destination_ports);
        for (const auto& match : rule_.sets) {
            word(fmt::format("{}@{}", match.inverted ? "!= " : "", match.value.set));
        }
        for (const auto& condition : rule_.conditions) {
            word(condition);
        }
        for (const auto& unread : rule_.unread) {
            word(fmt::format("[{}]", unread));
        }
        target();
        if (!rule_.comment.empty()) {
            word("comment " + quoted(rule_.comment));
        }
        return std::move(text_);
    }

private:
    void word(std::string_view text) {
        text_ += text_.empty() ? "" : " ";
        text_ += text;
    }
    void interface(std::string_view name, const std::optional<Match<std::string>>& match) {
        if (match) {
            std::string value = match->value;
            if (value.ends_with('+')) {
                value.back() = '*';
            }
            word(fmt::format("{} {}\"{}\"", name, match->inverted ? "!= " : "", value));
        }
    }
    void prefixes(std::string_view name, const std::vector<Match<Prefix>>& matches) {
        for (const auto& match : matches) {
            word(fmt::format("{} {} {}{}", match.value.address.family == Family::ipv4 ? "ip" : "ip6", name,
                             match.inverted ? "!= " : "", to_string(match.value)));
        }
    }
    void local(std::string_view name, const std::optional<bool>& match) {
        if (match) {
            word(fmt::format("fib {} type {}local", name, *match ? "" : "!= "));
        }
    }
    void ports(std::string_view name, const std::vector<PortMatch>& matches) {
        for (const auto& match : matches) {
            word(fmt::format("{} {}{}", name, match.inverted ? "!= " : "", ranges_text(match, '-')));
        }
    }
    void target() {
        const Target& target = rule_.target;
        switch (target.kind) {
            case TargetKind::none:
                return;
            case TargetKind::jump:
            case TargetKind::go_to:
                word((target.kind == TargetKind::jump ? "jump " : "goto ") + target.name);
                return;
            case TargetKind::accept:
                word("accept");
                return;
            case TargetKind::drop:
                word("drop");
                return;
            case TargetKind::return_:
                word("return");
                return;
            case TargetKind::verdict_map:
                lookups("");
                return;
            default:
                word(target.name);
        }
        if (const std::string to = nat_text(target); !to.empty()) {
            word("to " + to);
        }
        lookups("to ");
    }
    void lookups(std::string_view before) {
        for (const MapLookup& lookup : rule_.maps) {
            word(std::string(before) + lookup_text(lookup));
        }
    }

    const Rule& rule_;
    std::string text_;
};

}  // namespace

std::string rule_text(Backend backend, std::string_view chain, const Rule& rule) {
    return backend == Backend::nftables ? NftText(rule).text() : IptablesText(chain, rule).text();
}

std::string key_text(const std::vector<SetPart>& parts, const SetElement::Key& key) {
    std::string text;
    for (const SetPart part : parts) {
        text += text.empty() ? "" : " . ";
        switch (part) {
            case SetPart::ipv4_address:
            case SetPart::ipv6_address:
                text += to_string(key.ip);
                break;
            case SetPart::protocol:
                text += protocol_name(key.protocol);
                break;
            case SetPart::port:
                text += std::to_string(key.port);
                break;
            case SetPart::number:
                text += '*';
        }
    }
    return text;
}

std::string element_text(const std::vector<SetPart>& parts, SetData data, const SetElement& element) {
    std::string text = key_text(parts, element.key);
    if (!element.comment.empty()) {
        text += " comment " + quoted(element.comment);
    }
    return data == SetData::none ? text : fmt::format("{} : {}", text, data_text(data, element));
}

}  // namespace hptrace
