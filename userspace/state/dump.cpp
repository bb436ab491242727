// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/dump.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/excerpt.hpp"
#include "state/cni_cache.hpp"
#include "state/dump_checks.hpp"
#include "state/dump_files.hpp"
#include "state/iptables_save.hpp"
#include "state/json_read.hpp"
#include "state/kube_sets.hpp"
#include "state/nft_json.hpp"
#include "state/ruleset.hpp"
#include "state/save_files.hpp"
#include "state/save_notes.hpp"

namespace hptrace {
namespace {

using nlohmann::json;

constexpr std::size_t longest_reason = 300;

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
            status = {.state = SourceState::unreadable,
                      .why = excerpt(text_of(source, "why").value_or("not read"), longest_reason)};
        } else if (state != "unused") {
            return failure(fmt::format("source {}: unknown state '{}'", excerpt(name), excerpt(state)));
        }
    }
    return meta;
}

class DumpReader {
public:
    DumpReader(std::filesystem::path folder, Meta meta) : folder_(std::move(folder)), meta_(std::move(meta)) {}

    NodeState read() && {
        state_.node = meta_.node;
        DumpRules rules;
        read_legacy(Family::ipv4, dump_file::iptables_legacy, rules);
        read_legacy(Family::ipv6, dump_file::ip6tables_legacy, rules);
        read_nft(rules);
        DumpServices services;
        services.servers = take<VirtualServer>(dump_file::ipvs, parse_ipvs_save);
        services.sets = take<IpSet>(dump_file::ipset, [&rules](std::string_view text) {
            rules.set_names = names_of_ipset_save(text);
            return parse_ipset_save(text, kube_set_prefix);
        });
        services.addresses = read_addresses();
        services.has_cni_folder = read_sandboxes();
        check_rules(rules, state_.sources);
        interpret_rules(all_tables(std::move(rules)), state_);
        add_ipvs_services(services.servers, services.sets, state_);
        state_.index();
        check_services(services, state_);
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

    static SourceStatus unread(std::string why) { return {.state = SourceState::unreadable, .why = std::move(why)}; }

    // A file that is not there.
    [[nodiscard]] SourceStatus missing(const DumpFile& file) const {
        const auto* const status = said(file.source);
        if (status != nullptr && status->state != SourceState::used) {
            return *status;
        }
        return unread(fmt::format("{} is not in the dump", file.name));
    }

    // Files that were understood. Who made the dump may know that there was more.
    [[nodiscard]] SourceStatus understood(const DumpFile& file, bool empty) const {
        const auto* const status = said(file.source);
        if (status == nullptr || status->state == (empty ? SourceState::unused : SourceState::used)) {
            return {.state = empty ? SourceState::unused : SourceState::used, .why = {}};
        }
        if (status->state == SourceState::unreadable) {
            return *status;
        }
        return unread(empty ? fmt::format("{} is empty, though meta.json says that there is something", file.name)
                            : fmt::format("meta.json says that it is unused, but {} is not empty", file.name));
    }

    // The tools print nothing where there is nothing, and where they may not look. `text` is what they printed.
    [[nodiscard]] SourceStatus understood_save(const DumpFile& file, std::string_view text) const {
        const bool empty = text.find_first_not_of(" \t\n") == std::string_view::npos;
        if (empty && said(file.source) == nullptr) {
            return unread(fmt::format("{} is empty: nothing there, or {} failed (not root?); meta.json does not say",
                                      file.name, file.command));
        }
        return understood(file, empty);
    }

    static SourceStatus broken(const DumpFile& file, const Error& error) {
        return unread(fmt::format("{}: {}", file.name, excerpt(describe(error), longest_reason)));
    }

    // What `parse` makes of a file, and what is to be said of it; entries only if it was understood.
    template <class T>
    struct Parsed {
        bool understood = false;
        std::vector<T> entries;
        SourceStatus status;
    };
    template <class T, class Parse>
    Parsed<T> parse_file(const DumpFile& file, Parse parse) {
        const auto text = read_dump_file(folder_, file);
        if (!text) {
            return {.understood = false, .entries = {}, .status = broken(file, text.error())};
        }
        const auto& content = *text;
        if (!content) {
            return {.understood = false, .entries = {}, .status = missing(file)};
        }
        Result<std::vector<T>> parsed = parse(*content);
        if (!parsed) {
            return {.understood = false, .entries = {}, .status = broken(file, parsed.error())};
        }
        auto status = file.format == DumpFormat::save ? understood_save(file, *content) : understood(file, false);
        return {.understood = true, .entries = *std::move(parsed), .status = std::move(status)};
    }

    template <class T, class Parse>
    std::vector<T> take(const DumpFile& file, Parse parse) {
        auto parsed = parse_file<T>(file, parse);
        state_.sources[std::string(file.source)] = std::move(parsed.status);
        return std::move(parsed.entries);
    }

    // One file of iptables-save, unless its header says that it is another's.
    std::pair<SavedTables, SourceStatus> parse_saved(const DumpFile& file, Backend backend, Family family) {
        SavedTables saved;
        auto parsed = parse_file<RuleTable>(file, [&](std::string_view text) -> Result<std::vector<RuleTable>> {
            auto notes = read_save_notes(text, backend, family);
            if (!notes) {
                return std::unexpected(notes.error());
            }
            saved.notes = *std::move(notes);
            return parse_iptables_save(text, backend, family);
        });
        saved.understood = parsed.understood;
        saved.tables = std::move(parsed.entries);
        return {std::move(saved), std::move(parsed.status)};
    }

    void read_legacy(Family family, const DumpFile& file, DumpRules& rules) {
        auto [saved, status] = parse_saved(file, Backend::iptables_legacy, family);
        state_.sources[std::string(file.source)] = std::move(status);
        rules.legacy[family] = std::move(saved);
    }

    // nft.json shows every table; but what iptables-nft wrote has no payloads there, so it is taken from its own files.
    void read_nft(DumpRules& rules) {
        bool shows_tables = false;
        auto parsed = parse_file<RuleTable>(dump_file::nft, [&shows_tables](std::string_view text) {
            shows_tables = text.find("\"table\"") != std::string_view::npos;
            return parse_nft_json(text);
        });
        SourceStatus status = std::move(parsed.status);
        rules.nft_json_understood = parsed.understood;
        rules.nft_json = std::move(parsed.entries);
        bool any = !rules.nft_json.empty();
        for (const auto family : {Family::ipv4, Family::ipv6}) {
            const DumpFile& file = family == Family::ipv4 ? dump_file::iptables_nft : dump_file::ip6tables_nft;
            auto [saved, saved_status] = parse_saved(file, Backend::iptables_nft, family);
            const bool needed = is_there(folder_, file) || std::ranges::any_of(rules.nft_json, [&](const auto& table) {
                                    return is_of_iptables(table, family);
                                });
            if (!saved.understood && needed && status.state != SourceState::unreadable) {
                status = std::move(saved_status);
            }
            any = any || !saved.tables.empty();
            rules.nft[family] = std::move(saved);
        }
        if (status.state != SourceState::unreadable && rules.nft_json_understood) {
            status = any || shows_tables ? understood(dump_file::nft, false) : understood(dump_file::nft, true);
            if (status.state == SourceState::used && !any) {
                status.state = SourceState::unused;  // nothing that concerns Services
            }
        }
        state_.sources["nf_tables"] = std::move(status);
    }

    static bool is_of_iptables(const RuleTable& table, Family family) {
        return table.backend == Backend::iptables_nft && table.families.front() == family;
    }

    // As they are in the kernel: each table once.
    static std::vector<RuleTable> all_tables(DumpRules rules) {
        auto& nft = rules.nft_json;
        for (auto& [family, saved] : rules.nft) {
            // What a file that is there does not show iptables could not read: its rules count as not understood.
            std::erase_if(nft, [&](const RuleTable& table) {
                return is_of_iptables(table, family) &&
                       (!saved.understood ||
                        std::ranges::find(saved.tables, table.name, &RuleTable::name) != saved.tables.end());
            });
            std::ranges::move(saved.tables, std::back_inserter(nft));
        }
        std::ranges::sort(nft, {}, nft_order);  // as the kernel's tables are read
        std::vector<RuleTable> tables;
        for (auto& [family, saved] : rules.legacy) {
            std::ranges::move(saved.tables, std::back_inserter(tables));
        }
        std::ranges::move(nft, std::back_inserter(tables));
        return tables;
    }

    // inet, ip, ip6; then by name
    static std::pair<int, std::string> nft_order(const RuleTable& table) {
        const int family = table.families.size() > 1 ? 0 : static_cast<int>(table.families.front());
        return {family, table.name};
    }

    // `ip route show table local` without -6 shows no IPv6: every address of an interface is local too. Returned: those
    // of interfaces.
    std::vector<LocalAddress> read_addresses() {
        state_.local_addresses = take<LocalAddress>(dump_file::routes, parse_local_routes);
        auto addresses = take<LocalAddress>(dump_file::addresses, parse_addresses);
        for (const auto family : {Family::ipv4, Family::ipv6}) {
            const auto of_family = [family](const LocalAddress& local) {
                return local.prefix.address.family == family;
            };
            if (std::ranges::none_of(state_.local_addresses, of_family)) {
                std::ranges::copy_if(addresses, std::back_inserter(state_.local_addresses), of_family);
            }
        }
        return addresses;
    }

    // False: the folder is not there.
    bool read_sandboxes() {
        SourceStatus& status = state_.sources[std::string(dump_file::cni.source)];
        if (!is_there(folder_, dump_file::cni)) {
            status = missing(dump_file::cni);
            return false;
        }
        auto cache = read_cni_cache(folder_ / dump_file::cni.name);
        state_.sandboxes = std::move(cache.sandboxes);
        const auto* const said_of_it = said(dump_file::cni.source);
        const bool unused =
            state_.sandboxes.empty() && said_of_it != nullptr && said_of_it->state == SourceState::unused;
        status = cache.complete ? understood(dump_file::cni, unused) : std::move(cache.status);
        state_.sandboxes_complete = status.state == SourceState::used;
        return true;
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
    if (std::ranges::none_of(dump_files, [&](const auto& file) { return is_there(path, file); })) {
        return failure(fmt::format("{} is no dump: it has none of its files", folder), "nft.json, ipvs.save, ...");
    }
    Meta meta;
    const auto text = read_dump_file(path, dump_file::meta);
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
