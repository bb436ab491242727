// SPDX-License-Identifier: GPL-2.0-or-later
// The files of a dump, and what can be wrong with one before its content is looked at.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace hptrace {

enum class DumpFormat : std::uint8_t {
    save,    // lines, each with its end
    json,    // what shows by itself where it ends
    folder,  // one file per container
};

struct DumpFile {
    std::string_view name;
    std::string_view source;   // of NodeState::sources that it says something of; empty: of all
    std::string_view command;  // prints it
    DumpFormat format = DumpFormat::save;
};

namespace dump_file {
inline constexpr DumpFile iptables_legacy{"iptables-legacy.save", "iptables-legacy", "iptables-legacy-save"};
inline constexpr DumpFile ip6tables_legacy{"ip6tables-legacy.save", "ip6tables-legacy", "ip6tables-legacy-save"};
inline constexpr DumpFile iptables_nft{"iptables-nft.save", "nf_tables", "iptables-nft-save"};
inline constexpr DumpFile ip6tables_nft{"ip6tables-nft.save", "nf_tables", "ip6tables-nft-save"};
inline constexpr DumpFile nft{"nft.json", "nf_tables", "nft -j list ruleset", DumpFormat::json};
inline constexpr DumpFile ipvs{"ipvs.save", "ip_vs", "ipvsadm-save -n"};
inline constexpr DumpFile ipset{"ipset.save", "ipset", "ipset save"};
inline constexpr DumpFile addresses{"addresses.json", "addresses", "ip -j addr", DumpFormat::json};
inline constexpr DumpFile routes{"routes-local.json", "routes", "ip -j route show table local", DumpFormat::json};
inline constexpr DumpFile cni{"cni-results", "cni", "cp -r /var/lib/cni/results", DumpFormat::folder};
inline constexpr DumpFile meta{"meta.json", "", "", DumpFormat::json};
}  // namespace dump_file

inline constexpr std::array dump_files{dump_file::iptables_legacy,
                                       dump_file::ip6tables_legacy,
                                       dump_file::iptables_nft,
                                       dump_file::ip6tables_nft,
                                       dump_file::nft,
                                       dump_file::ipvs,
                                       dump_file::ipset,
                                       dump_file::addresses,
                                       dump_file::routes,
                                       dump_file::cni,
                                       dump_file::meta};

// Is there anything of this name?
bool is_there(const std::filesystem::path& folder, const DumpFile& file);

// What `file` holds, as plain_text() gives it; nothing: there is no such file. Error: it cannot be read, or
// plain_text()'s.
Result<std::optional<std::string>> read_dump_file(const std::filesystem::path& folder, const DumpFile& file);

// A tool's output as the tool printed it, whatever it was copied through: without a byte order mark, each line ended by
// a newline alone. Error: text of another encoding, bytes that no tool prints, or (DumpFormat::save) a last line
// without its end: something is missing behind it.
Result<std::string> plain_text(std::string raw, DumpFormat format);

}  // namespace hptrace
