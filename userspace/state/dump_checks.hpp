// SPDX-License-Identifier: GPL-2.0-or-later
// What the files of a dump say against each other. A file that is empty, cut off between two lines, of another network
// namespace or of another hour is well-formed; what gives it away is that another one knows of more.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/address.hpp"
#include "state/ipset.hpp"
#include "state/ipvs.hpp"
#include "state/node_state.hpp"
#include "state/ruleset.hpp"
#include "state/save_notes.hpp"

namespace hptrace {

// One file of iptables-save.
struct SavedTables {
    bool understood = false;  // it is there, and was parsed
    std::vector<RuleTable> tables;
    SaveNotes notes;
};

// The rules of a dump, as each file has them.
struct DumpRules {
    std::map<Family, SavedTables> legacy;
    std::map<Family, SavedTables> nft;
    bool nft_json_understood = false;
    std::vector<RuleTable> nft_json;
    std::vector<std::string> set_names;  // all of ipset.save's, sorted
};

// What else a dump has, as the files have it.
struct DumpServices {
    std::vector<VirtualServer> servers;
    std::vector<IpSet> sets;              // kube-proxy's
    std::vector<LocalAddress> addresses;  // of addresses.json
    bool has_cni_folder = false;
};

using SourceStatuses = std::map<std::string, SourceStatus>;  // NodeState::sources

// Both make each source unreadable that another one contradicts, with what contradicts it; what is unreadable already
// stays as it is. The second one is for an indexed state, with the Services that follow from all of it.
void check_rules(const DumpRules& rules, SourceStatuses& sources);
void check_services(const DumpServices& services, NodeState& state);

}  // namespace hptrace
