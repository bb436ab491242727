// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/xt_decode.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/xt_addrtype.h>
#include <linux/netfilter/xt_comment.h>
#include <linux/netfilter/xt_mark.h>
#include <linux/netfilter/xt_multiport.h>
#include <linux/netfilter/xt_set.h>
#include <linux/netfilter/xt_tcpudp.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

namespace hptrace {
namespace {

using Payload = std::span<const std::byte>;

// A decoder returns false if the payload is not what the header says.
using Decoder = bool (*)(std::uint8_t revision, Payload, const XtContext&, Rule&);

// Payloads are not aligned: copied, never cast.
template <class T>
std::optional<T> load(Payload payload) {
    if (payload.size() < sizeof(T)) {
        return std::nullopt;
    }
    T value{};
    std::memcpy(&value, payload.data(), sizeof(T));
    return value;
}

void add_range(std::vector<PortMatch>& ports, std::uint16_t first, std::uint16_t last, bool inverted) {
    if (first != 0 || last != 65535 || inverted) {  // 0:65535 is how "any port" is written
        ports.push_back({{PortRange{first, last}}, inverted});
    }
}

bool decode_tcp(std::uint8_t revision, Payload payload, const XtContext& /*context*/, Rule& rule) {
    const auto info = load<xt_tcp>(payload);
    if (revision != 0 || !info) {
        return false;
    }
    add_range(rule.source_ports, info->spts[0], info->spts[1], (info->invflags & XT_TCP_INV_SRCPT) != 0);
    add_range(rule.destination_ports, info->dpts[0], info->dpts[1], (info->invflags & XT_TCP_INV_DSTPT) != 0);
    if (info->flg_mask != 0 || info->option != 0) {
        rule.conditions.emplace_back("-m tcp (flags or options)");
    }
    return true;
}

bool decode_udp(std::uint8_t revision, Payload payload, const XtContext& /*context*/, Rule& rule) {
    const auto info = load<xt_udp>(payload);
    if (revision != 0 || !info) {
        return false;
    }
    add_range(rule.source_ports, info->spts[0], info->spts[1], (info->invflags & XT_UDP_INV_SRCPT) != 0);
    add_range(rule.destination_ports, info->dpts[0], info->dpts[1], (info->invflags & XT_UDP_INV_DSTPT) != 0);
    return true;
}

// struct xt_sctp_info and its flags: linux/netfilter/xt_sctp.h is no C++.
struct SctpInfo {
    std::uint16_t destination_ports[2];
    std::uint16_t source_ports[2];
    std::uint32_t chunkmap[64];
    std::uint32_t chunk_match_type;
    std::uint8_t flag_info[4][3];
    std::int32_t flag_count;
    std::uint32_t flags;
    std::uint32_t inverted;
};
static_assert(sizeof(SctpInfo) == 292);
constexpr std::uint32_t sctp_source_ports = 1;
constexpr std::uint32_t sctp_destination_ports = 2;
constexpr std::uint32_t sctp_chunk_types = 4;

bool decode_sctp(std::uint8_t revision, Payload payload, const XtContext& /*context*/, Rule& rule) {
    const auto info = load<SctpInfo>(payload);
    if (revision != 0 || !info) {
        return false;
    }
    if ((info->flags & sctp_source_ports) != 0) {
        add_range(rule.source_ports, info->source_ports[0], info->source_ports[1],
                  (info->inverted & sctp_source_ports) != 0);
    }
    if ((info->flags & sctp_destination_ports) != 0) {
        add_range(rule.destination_ports, info->destination_ports[0], info->destination_ports[1],
                  (info->inverted & sctp_destination_ports) != 0);
    }
    if ((info->flags & sctp_chunk_types) != 0) {
        rule.conditions.emplace_back("-m sctp (chunk types)");
    }
    return true;
}

bool decode_multiport(std::uint8_t revision, Payload payload, const XtContext& /*context*/, Rule& rule) {
    const auto info = load<xt_multiport_v1>(payload);
    if (revision != 1 || !info || info->count == 0 || info->count > XT_MULTI_PORTS ||
        info->flags > XT_MULTIPORT_EITHER) {
        return false;
    }
    PortMatch match{{}, info->invert != 0};
    for (std::size_t i = 0; i < info->count; ++i) {
        PortRange range{info->ports[i], info->ports[i]};
        if (info->pflags[i] != 0) {  // the next one is the end of a range
            if (i + 1 == info->count) {
                return false;
            }
            range.last = info->ports[++i];
        }
        match.any_of.push_back(range);
    }
    if (info->flags == XT_MULTIPORT_EITHER) {
        rule.unread.emplace_back("multiport --ports");
        return true;
    }
    (info->flags == XT_MULTIPORT_SOURCE ? rule.source_ports : rule.destination_ports).push_back(std::move(match));
    return true;
}

bool decode_addrtype(std::uint8_t revision, Payload payload, const XtContext& /*context*/, Rule& rule) {
    xt_addrtype_info_v1 info{};
    if (revision == 0) {
        const auto old = load<xt_addrtype_info>(payload);
        if (!old) {
            return false;
        }
        info.source = old->source;
        info.dest = old->dest;
        if (old->invert_source != 0) {
            info.flags |= XT_ADDRTYPE_INVERT_SOURCE;
        }
        if (old->invert_dest != 0) {
            info.flags |= XT_ADDRTYPE_INVERT_DEST;
        }
    } else {
        const auto current = load<xt_addrtype_info_v1>(payload);
        if (revision != 1 || !current) {
            return false;
        }
        info = *current;
    }
    const auto add = [&rule](std::uint16_t types, bool inverted, std::optional<bool>& local, std::string_view option) {
        if (types == XT_ADDRTYPE_LOCAL) {
            local = !inverted;
        } else if (types != 0) {
            rule.conditions.push_back(fmt::format("-m addrtype {}{} {:#x}", inverted ? "! " : "", option, types));
        }
    };
    add(info.source, (info.flags & XT_ADDRTYPE_INVERT_SOURCE) != 0, rule.source_local, "--src-type");
    add(info.dest, (info.flags & XT_ADDRTYPE_INVERT_DEST) != 0, rule.destination_local, "--dst-type");
    if ((info.flags & (XT_ADDRTYPE_LIMIT_IFACE_IN | XT_ADDRTYPE_LIMIT_IFACE_OUT)) != 0) {
        rule.conditions.emplace_back("-m addrtype --limit-iface");
    }
    return true;
}

bool decode_comment(std::uint8_t revision, Payload payload, const XtContext& /*context*/, Rule& rule) {
    const auto info = load<xt_comment_info>(payload);
    if (revision != 0 || !info) {
        return false;
    }
    rule.comment.assign(info->comment, strnlen(info->comment, sizeof(info->comment)));
    return true;
}

bool decode_mark(std::uint8_t revision, Payload payload, const XtContext& /*context*/, Rule& rule) {
    const auto info = load<xt_mark_mtinfo1>(payload);
    if (revision != 1 || !info) {
        return false;
    }
    rule.conditions.push_back(
        fmt::format("-m mark {}--mark {:#x}/{:#x}", info->invert != 0 ? "! " : "", info->mark, info->mask));
    return true;
}

bool decode_set(std::uint8_t revision, Payload payload, const XtContext& context, Rule& rule) {
    std::uint16_t index = 0;
    unsigned int dimensions = 0;
    unsigned int flags = 0;
    if (revision == 0) {
        const auto info = load<xt_set_info_match_v0>(payload);
        if (!info) {
            return false;
        }
        // The kernel keeps the flags it works with in `compat` (xt_set.c compat_flags()).
        index = info->match_set.index;
        dimensions = info->match_set.u.compat.dim;
        flags = info->match_set.u.compat.flags;
    } else {
        // Revisions 1 to 4 begin alike; counters and further flags follow from 3 on.
        constexpr std::array<std::size_t, 5> sizes{0, sizeof(xt_set_info_match_v1), sizeof(xt_set_info_match_v1),
                                                   sizeof(xt_set_info_match_v3), sizeof(xt_set_info_match_v4)};
        const auto info = load<xt_set_info_match_v1>(payload);
        if (revision >= sizes.size() || !info || payload.size() < sizes.at(revision)) {
            return false;
        }
        index = info->match_set.index;
        dimensions = info->match_set.dim;
        flags = info->match_set.flags;
    }
    if (dimensions == 0 || dimensions > IPSET_DIM_MAX) {
        return false;
    }
    auto name = context.set_name(index);
    if (!name) {
        rule.unread.push_back(fmt::format("set (index {} has no name)", index));
        return true;
    }
    Match<SetMatch> match{{std::move(*name), {}}, (flags & IPSET_INV_MATCH) != 0};
    for (unsigned int dimension = 1; dimension <= dimensions; ++dimension) {
        match.value.source.push_back((flags & (1U << dimension)) != 0);
    }
    rule.sets.push_back(std::move(match));
    return true;
}

struct NamedDecoder {
    std::string_view name;
    Decoder decode;
};

constexpr std::array match_decoders{
    NamedDecoder{"comment", decode_comment},   NamedDecoder{"tcp", decode_tcp},
    NamedDecoder{"udp", decode_udp},           NamedDecoder{"multiport", decode_multiport},
    NamedDecoder{"addrtype", decode_addrtype}, NamedDecoder{"set", decode_set},
    NamedDecoder{"mark", decode_mark},         NamedDecoder{"sctp", decode_sctp},
};

// Matches of the kernel that only narrow a rule down.
constexpr auto conditions = std::to_array<std::string_view>(
    {"statistic", "recent",  "physdev",   "conntrack", "state",     "connmark", "limit",  "hashlimit",  "mac",
     "owner",     "nfacct",  "rpfilter",  "socket",    "cpu",       "length",   "icmp",   "icmp6",      "bpf",
     "cgroup",    "string",  "time",      "iprange",   "tos",       "dscp",     "ttl",    "hl",         "ipvs",
     "helper",    "quota",   "connbytes", "connlimit", "connlabel", "pkttype",  "policy", "realm",      "devgroup",
     "cluster",   "rateest", "osf",       "esp",       "ah",        "frag",     "rt",     "ipv6header", "mh",
     "eui64",     "tcpmss",  "ecn",       "l2tp",      "ipcomp",    "srh"});

Address ipv4_address(std::uint32_t network_order) {
    std::array<std::uint8_t, 4> bytes{};
    std::memcpy(bytes.data(), &network_order, bytes.size());
    return make_address(Family::ipv4, bytes);
}

Address address_of(const nf_inet_addr& address, Family family) {
    std::array<std::uint8_t, 16> bytes{};
    std::memcpy(bytes.data(), &address, bytes.size());
    return make_address(family, bytes);
}

struct NatRange {
    Endpoint first;
    Endpoint last;
};

// What DNAT, SNAT, REDIRECT and MASQUERADE carry: revision 0 of IPv4 has a format of its own; DNAT and SNAT grew a
// port base in revision 2.
std::optional<NatRange> nat_range(std::uint8_t revision, Payload payload, Family family) {
    NatRange range;
    range.first.ip.family = family;
    range.last.ip.family = family;
    unsigned int flags = 0;
    if (revision == 0 && family == Family::ipv4) {
        const auto info = load<nf_nat_ipv4_multi_range_compat>(payload);
        if (!info || info->rangesize != 1) {
            return std::nullopt;
        }
        const auto& only = info->range[0];
        flags = only.flags;
        range = {{ipv4_address(only.min_ip), ntohs(only.min.all)}, {ipv4_address(only.max_ip), ntohs(only.max.all)}};
    } else {
        const auto info = load<nf_nat_range>(payload);
        if (revision > 2 || !info || (revision == 2 && payload.size() < sizeof(nf_nat_range2))) {
            return std::nullopt;
        }
        flags = info->flags;
        range = {{address_of(info->min_addr, family), ntohs(info->min_proto.all)},
                 {address_of(info->max_addr, family), ntohs(info->max_proto.all)}};
    }
    if ((flags & NF_NAT_RANGE_MAP_IPS) == 0) {
        range.first.ip = range.last.ip = Address{family, {}};
    }
    if ((flags & NF_NAT_RANGE_PROTO_SPECIFIED) == 0) {
        range.first.port = range.last.port = 0;
    }
    return range;
}

struct NamedTarget {
    std::string_view name;
    TargetKind kind;
};

constexpr std::array targets{
    NamedTarget{"DNAT", TargetKind::dnat}, NamedTarget{"REDIRECT", TargetKind::redirect},
    NamedTarget{"SNAT", TargetKind::snat}, NamedTarget{"MASQUERADE", TargetKind::masquerade},
    NamedTarget{"MARK", TargetKind::mark}, NamedTarget{"REJECT", TargetKind::reject},
};

}  // namespace

void decode_xt_match(std::string_view name, std::uint8_t revision, std::span<const std::byte> payload,
                     const XtContext& context, Rule& rule) {
    const auto decoder = std::ranges::find(match_decoders, name, &NamedDecoder::name);
    if (decoder != match_decoders.end()) {
        if (!decoder->decode(revision, payload, context, rule)) {
            rule.unread.push_back(fmt::format("{} (revision {}, {} bytes)", name, revision, payload.size()));
        }
    } else if (is_xt_condition(name)) {
        rule.conditions.push_back(std::string("-m ").append(name));
    } else {
        rule.unread.emplace_back(name);
    }
}

void decode_xt_target(std::string_view name, std::uint8_t revision, std::span<const std::byte> payload,
                      const XtContext& context, Rule& rule) {
    rule.target = {xt_target_kind(name), std::string(name), {}, {}};
    switch (rule.target.kind) {
        case TargetKind::dnat:
        case TargetKind::redirect:
        case TargetKind::snat: {
            const auto range = nat_range(revision, payload, context.family);
            if (!range) {
                rule.unread.push_back(fmt::format("{} (revision {}, {} bytes)", name, revision, payload.size()));
                return;
            }
            rule.target.to = range->first;
            if (range->last != range->first) {
                rule.target.to_last = range->last;
            }
            return;
        }
        default:
            return;
    }
}

bool is_xt_condition(std::string_view match) {
    return std::ranges::find(conditions, match) != conditions.end();
}

TargetKind xt_target_kind(std::string_view target) {
    const auto known = std::ranges::find(targets, target, &NamedTarget::name);
    return known == targets.end() ? TargetKind::other : known->kind;
}

}  // namespace hptrace
