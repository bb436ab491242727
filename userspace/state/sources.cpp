// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/sources.hpp"

#include <memory>
#include <utility>

#include "base/fingerprint.hpp"
#include "state/address_watch.hpp"
#include "state/addresses.hpp"
#include "state/legacy.hpp"
#include "state/nftables.hpp"

namespace hptrace {
namespace {

void add(Fingerprint& print, const Address& address) {
    print.add(address.family);
    print.add(std::as_bytes(std::span(address.bytes)));
}

void add(Fingerprint& print, const Endpoint& endpoint) {
    add(print, endpoint.ip);
    print.add(endpoint.port);
}

template <class T>
void add(Fingerprint& print, const std::optional<T>& value) {
    print.add(value.has_value());
    if constexpr (std::is_integral_v<T>) {
        print.add(value.value_or(0));
    } else if (value) {
        add(print, *value);
    }
}

void add(Fingerprint& print, const VirtualServer& server) {
    print.add(server.family);
    print.add(server.protocol);
    add(print, server.address);
    print.add(server.fwmark);
    print.add(server.persistent);
    print.add(server.real_servers.size());
    for (const auto& real_server : server.real_servers) {
        add(print, real_server);
    }
}

void add(Fingerprint& print, const IpSet& set) {
    print.add(set.name);
    print.add(set.type);
    print.add(set.members.size());
    for (const auto& member : set.members) {
        add(print, member.ip);
        add(print, member.port);
        add(print, member.protocol);
    }
}

void add(Fingerprint& print, const LocalAddress& address) {
    add(print, address.prefix.address);
    print.add(address.prefix.length);
    print.add(address.device);
}

// For what has to be read to know whether it is the same.
template <class T>
ReadIfNew<std::vector<T>> if_new(Result<std::vector<T>> read, std::optional<std::uint64_t> known) {
    if (!read) {
        return std::unexpected(read.error());
    }
    Fingerprint print;
    print.add(read->size());
    for (const auto& entry : *read) {
        add(print, entry);
    }
    if (print.value() == known) {
        return std::nullopt;
    }
    return Versioned{print.value(), *std::move(read)};
}

std::function<bool()> watch_addresses() {
    auto opened = AddressWatch::open();
    if (!opened) {
        return [] { return true; };
    }
    const auto watch = std::make_shared<AddressWatch>(*std::move(opened));
    return [watch] { return watch->changed(); };
}

NodeSources all_sources(PodFolders folders, PodSource::Watching watching, std::function<bool()> routes_changed,
                        NftReader::Options nft) {
    const auto nf_tables = std::make_shared<NftReader>(std::move(nft));
    const auto pods = std::make_shared<PodSource>(std::move(folders), watching);
    using Known = std::optional<std::uint64_t>;
    return {
        .legacy_ipv4 = [](Known known) { return read_legacy_tables_if_new(Family::ipv4, known); },
        .legacy_ipv6 = [](Known known) { return read_legacy_tables_if_new(Family::ipv6, known); },
        .nf_tables = [nf_tables](Known known) { return nf_tables->read_if_new(known); },
        .ip_vs = [](Known known) { return if_new(read_virtual_servers(), known); },
        .ipset = [](const KubeSetQuestion& question, Known known) { return if_new(read_kube_sets(question), known); },
        .routes = [](Known known) { return if_new(read_local_addresses(), known); },
        .routes_changed = std::move(routes_changed),
        .pods = [pods] { return pods->news(); },
        .pods_announced = [pods] { return pods->announced(); },
        .give_back_nf_tables = [nf_tables](auto tables) { nf_tables->give_back(std::move(tables)); },
        .rest_nf_tables = [nf_tables] { nf_tables->rest(); },
    };
}  // NOLINT(clang-analyzer-cplusplus.NewDeleteLeaks): the functions own what they hold

}  // namespace

NodeSources native_sources(PodFolders pods, std::stop_token stop) {
    return all_sources(std::move(pods), PodSource::Watching::yes, watch_addresses(),
                       {.following = NftReader::Following::yes, .stop = std::move(stop)});
}

NodeSources visited_sources(PodFolders pods, NftLimits nft_limits, std::stop_token stop) {
    return all_sources(std::move(pods), PodSource::Watching::no, [] { return true; },
                       {.limits = nft_limits, .stop = std::move(stop)});
}

}  // namespace hptrace
