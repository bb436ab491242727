// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/dump.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/file.hpp"
#include "state/cni_cache.hpp"
#include "state/iptables_save.hpp"
#include "state/json_read.hpp"
#include "state/nft_json.hpp"
#include "state/ruleset.hpp"
#include "state/save_files.hpp"

namespace hptrace {
namespace {

using nlohmann::json;

constexpr std::array<std::string_view, 11> files{
    "iptables-legacy.save", "ip6tables-legacy.save", "iptables-nft.save", "ip6tables-nft.save", "nft.json", "ipvs.save",
    "ipset.save",           "addresses.json",        "routes-local.json", "cni-results",        "meta.json"};

// The tools' output for some 100,000 Services.
constexpr std::size_t most_of_file = 256UL * 1024 * 1024;

// Nothing: there is no such file.
Result<std::optional<std::string>> read_dump_file(const std::filesystem::path& path) {
    auto text = read_file(path, most_of_file);
    if (!text && is_absent(text.error())) {
        return std::nullopt;
    }
    return text ? Result<std::optional<std::string>>(*std::move(text)) : std::unexpected(std::move(text.error()));
}

// What meta.json says became of each source.
struct Meta {
    std::string node;
    std::map<std::string, SourceStatus, std::less<>> sources;
};

Result<Meta> parse_meta(std::string_view text) {
    const auto content = parse_json(text);
    if (!content) {
        return std::unexpected(content.error());
    }
    Meta meta{.node = text_of(*content, "node").value_or(""), .sources = {}};
    const json* const sources = member(*content, "sources");
    if (sources == nullptr || !sources->is_object()) {
        return failure("no \"sources\" in it");
    }
    for (const auto& [name, source] : sources->items()) {
        const auto state = text_of(source, "state").value_or("");
        SourceStatus& status = meta.sources[name];
        if (state == "used") {
            status.state = SourceState::used;
        } else if (state == "unreadable") {
            status = {.state = SourceState::unreadable, .why = text_of(source, "why").value_or("not read")};
        } else if (state != "unused") {
            return failure(fmt::format("source {}: unknown state '{}'", name, state));
        }
    }
    return meta;
}

class DumpReader {
public:
    DumpReader(std::filesystem::path folder, Meta meta) : folder_(std::move(folder)), meta_(std::move(meta)) {}

    NodeState read() && {
        state_.node = meta_.node;
        auto tables = read_legacy("iptables-legacy", Family::ipv4);
        std::ranges::move(read_legacy("ip6tables-legacy", Family::ipv6), std::back_inserter(tables));
        std::ranges::move(read_nft(), std::back_inserter(tables));
        const auto servers = take<VirtualServer>("ip_vs", "ipvs.save", parse_ipvs_save);
        const auto sets = take<IpSet>("ipset", "ipset.save",
                                      [](std::string_view text) { return parse_ipset_save(text, kube_set_prefix); });
        read_addresses();
        read_sandboxes();
        interpret_rules(std::move(tables), state_);
        add_ipvs_services(servers, sets, state_);
        state_.index();
        return std::move(state_);
    }

private:
    // What meta.json says of a source; it may speak of both families of iptables-legacy as one.
    [[nodiscard]] const SourceStatus* said(std::string_view source) const {
        auto found = meta_.sources.find(source);
        if (found == meta_.sources.end() && source == "ip6tables-legacy") {
            found = meta_.sources.find("iptables-legacy");
        }
        return found == meta_.sources.end() ? nullptr : &found->second;
    }

    // A file that is not there.
    [[nodiscard]] SourceStatus missing(std::string_view source, std::string_view file) const {
        const auto* const status = said(source);
        if (status != nullptr && status->state != SourceState::used) {
            return *status;
        }
        return {.state = SourceState::unreadable, .why = fmt::format("{} is not in the dump", file)};
    }

    // Files that were understood. Who made the dump may know that there was more.
    [[nodiscard]] SourceStatus understood(std::string_view source, bool empty) const {
        const auto* const status = said(source);
        if (status != nullptr && status->state == SourceState::unreadable) {
            return *status;
        }
        return {.state = empty ? SourceState::unused : SourceState::used, .why = {}};
    }

    static SourceStatus broken(std::string_view file, const Error& error) {
        return {.state = SourceState::unreadable, .why = fmt::format("{}: {}", file, describe(error))};
    }

    // What `parse` makes of a file, and what is to be said of it; entries only if it was understood.
    template <class T, class Parse>
    std::pair<std::vector<T>, SourceStatus> parse_file(std::string_view source, std::string_view file, Parse parse) {
        const auto text = read_dump_file(folder_ / file);
        if (!text) {
            return {{}, broken(file, text.error())};
        }
        const auto& content = *text;
        if (!content) {
            return {{}, missing(source, file)};
        }
        Result<std::vector<T>> parsed = parse(*content);
        if (!parsed) {
            return {{}, broken(file, parsed.error())};
        }
        const bool empty = parsed->empty();
        return {*std::move(parsed), understood(source, empty)};
    }

    template <class T, class Parse>
    std::vector<T> take(const std::string& source, std::string_view file, Parse parse) {
        auto [entries, status] = parse_file<T>(source, file, parse);
        state_.sources[source] = std::move(status);
        return std::move(entries);
    }

    std::vector<RuleTable> read_legacy(const std::string& source, Family family) {
        return take<RuleTable>(source, source + ".save", [family](std::string_view text) {
            return parse_iptables_save(text, Backend::iptables_legacy, family);
        });
    }

    // nft.json shows every table; but what iptables-nft wrote has no payloads there, so it is taken from its own files.
    std::vector<RuleTable> read_nft() {
        auto [tables, status] = parse_file<RuleTable>("nf_tables", "nft.json", parse_nft_json);
        for (const auto family : {Family::ipv4, Family::ipv6}) {
            const std::string_view file = family == Family::ipv4 ? "iptables-nft.save" : "ip6tables-nft.save";
            const auto of_iptables = [family](const RuleTable& table) {
                return table.backend == Backend::iptables_nft && table.families.front() == family;
            };
            auto [saved, saved_status] = parse_file<RuleTable>("nf_tables", file, [family](std::string_view text) {
                return parse_iptables_save(text, Backend::iptables_nft, family);
            });
            if (saved_status.state == SourceState::unreadable && saved.empty()) {
                const bool needed = std::ranges::any_of(tables, of_iptables) || is_there(file);
                if (needed && status.state != SourceState::unreadable) {
                    status = saved_status;
                }
                std::erase_if(tables, of_iptables);
                continue;
            }
            // What the file does not show iptables could not read: its rules count as not understood.
            std::erase_if(tables, [&](const RuleTable& table) {
                return of_iptables(table) && std::ranges::find(saved, table.name, &RuleTable::name) != saved.end();
            });
            std::ranges::move(saved, std::back_inserter(tables));
        }
        std::ranges::sort(tables, {}, nft_order);  // as the kernel's tables are read
        state_.sources["nf_tables"] = std::move(status);
        return std::move(tables);
    }

    [[nodiscard]] bool is_there(std::string_view file) const {
        std::error_code ignored;
        return std::filesystem::exists(folder_ / file, ignored);
    }

    // inet, ip, ip6; then by name
    static std::pair<int, std::string> nft_order(const RuleTable& table) {
        const int family = table.families.size() > 1 ? 0 : static_cast<int>(table.families.front());
        return {family, table.name};
    }

    // `ip route show table local` without -6 shows no IPv6: every address of an interface is local too.
    void read_addresses() {
        state_.local_addresses = take<LocalAddress>("routes", "routes-local.json", parse_local_routes);
        const auto addresses = take<LocalAddress>("addresses", "addresses.json", parse_addresses);
        for (const auto family : {Family::ipv4, Family::ipv6}) {
            const auto of_family = [family](const LocalAddress& local) {
                return local.prefix.address.family == family;
            };
            if (std::ranges::none_of(state_.local_addresses, of_family)) {
                std::ranges::copy_if(addresses, std::back_inserter(state_.local_addresses), of_family);
            }
        }
    }

    void read_sandboxes() {
        SourceStatus& status = state_.sources["cni"];
        if (!is_there("cni-results")) {
            status = missing("cni", "cni-results");
            return;
        }
        auto cache = read_cni_cache(folder_ / "cni-results");
        state_.sandboxes = std::move(cache.sandboxes);
        status = cache.complete ? understood("cni", false) : std::move(cache.status);
        state_.sandboxes_complete = status.state == SourceState::used;
    }

    std::filesystem::path folder_;
    Meta meta_;
    NodeState state_;
};

}  // namespace

Result<NodeStatePtr> read_dump(const std::string& folder) {
    const std::filesystem::path path(folder);
    std::error_code error;
    if (!std::filesystem::is_directory(path, error)) {
        return system_error(fmt::format("cannot read the dump {}", folder), error ? error.value() : ENOTDIR);
    }
    if (std::ranges::none_of(files, [&](auto file) { return std::filesystem::exists(path / file, error); })) {
        return failure(fmt::format("{} is no dump: it has none of its files", folder), "nft.json, ipvs.save, ...");
    }
    Meta meta;
    const auto text = read_dump_file(path / "meta.json");
    if (!text) {
        return failure(fmt::format("{}/meta.json: {}", folder, describe(text.error())));
    }
    if (const auto& content = *text) {
        auto parsed = parse_meta(*content);
        if (!parsed) {
            return failure(fmt::format("{}/meta.json: {}", folder, describe(parsed.error())));
        }
        meta = *std::move(parsed);
    }
    return std::make_shared<const NodeState>(DumpReader(path, std::move(meta)).read());
}

}  // namespace hptrace
