// SPDX-License-Identifier: GPL-2.0-or-later
// Files of a dump that contradict each other: the source that another one knows more of is unread, with why.
#include <catch2/catch_test_macros.hpp>

#include "dump_folder.hpp"

using namespace hptrace;

namespace {

std::string meta(const std::string& sources) {
    return R"({"node": "n", "sources": {)" + sources + "}}";
}

// The node's meta.json with another state of one source.
void say(const Copy& copy, const std::string& source, const std::string& state) {
    auto text = contents_of(copy.path() / "meta.json");
    const auto at = text.find("\"state\": \"", text.find("\"" + source + "\": {"));
    const auto begin = text.find_first_of('"', at + 8) + 1;
    text.replace(begin, text.find('"', begin) - begin, state);
    copy.write("meta.json", text);
}

std::string without_table(const std::string& save, const std::string& table) {
    const auto begin = save.find("*" + table + "\n");
    return save.substr(0, begin) + save.substr(save.find("COMMIT\n", begin) + 7);
}

}  // namespace

TEST_CASE("what a tool left empty is not unused", "[dump]") {
    const Copy copy("kube-1.28-ipvs-legacy");
    for (const auto& [file, source] : {std::pair{"ipvs.save", "ip_vs"}, std::pair{"ipset.save", "ipset"},
                                       std::pair{"iptables-legacy.save", "iptables-legacy"},
                                       std::pair{"ip6tables-legacy.save", "ip6tables-legacy"}}) {
        const auto text = contents_of(copy.path() / file);
        for (const std::string empty : {"", "\n", "\r\n"}) {
            copy.write(file, empty);
            CHECK(why(read(copy.path()), source) ==
                  std::string(file) + " is empty, though meta.json says that there is something");
        }
        copy.write(file, text);
    }
    // Who says nothing of a source does not say that it is unused.
    copy.write("meta.json", meta(""));
    copy.write("iptables-legacy.save", "");
    CHECK(why(read(copy.path()), "iptables-legacy") ==
          "iptables-legacy.save is empty: nothing there, or iptables-legacy-save failed (not root?); meta.json does "
          "not say");
    copy.remove("meta.json");
    CHECK(why(read(copy.path()), "iptables-legacy").find("meta.json does not say") != std::string::npos);
    copy.write("meta.json", meta(R"("iptables-legacy": {"state": "unused"}, "ip6tables-legacy": {"state": "used"})"));
    CHECK(why(read(copy.path()), "iptables-legacy") == "unused");
    for (const std::string file : {"routes-local.json", "addresses.json"}) {
        const std::string source = file == "addresses.json" ? "addresses" : "routes";
        copy.write(file, "");
        CHECK(why(read(copy.path()), source) == file + ": it is empty");
        copy.write(file, "[]");
        CHECK(why(read(copy.path()), source) ==
              file + ": no local address in it (not saved in the node's network namespace?)");
    }
}

TEST_CASE("what meta.json calls unused and is there contradicts it", "[dump]") {
    const Copy copy("kube-1.28-ipvs-legacy");
    for (const auto& [file, source] :
         {std::pair{"ipvs.save", "ip_vs"}, std::pair{"ipset.save", "ipset"},
          std::pair{"iptables-legacy.save", "iptables-legacy"}, std::pair{"cni-results", "cni"}}) {
        say(copy, source, "unused");
        const auto state = read(copy.path());
        CHECK(why(state, source) == "meta.json says that it is unused, but " + std::string(file) + " is not empty");
        CHECK_FALSE(state.hostports.empty());  // what is there counts
        say(copy, source, "used");
        CHECK(read(copy.path()).all_sources_read());
    }
    const Copy nft("kube-1.28-ipvs-after");
    say(nft, "nf_tables", "unused");
    CHECK(why(read(nft.path()), "nf_tables").find("is unused, but nft.json is not empty") != std::string::npos);
    nft.remove("nft.json");
    CHECK(why(read(nft.path()), "nf_tables") == "nft.json is not in the dump, but iptables-nft.save has rules");
    nft.remove("iptables-nft.save");
    nft.remove("ip6tables-nft.save");
    CHECK(why(read(nft.path()), "nf_tables") == "unused");
}

TEST_CASE("ip_vs without virtual servers, where kube-proxy's ipvs mode left its traces", "[dump]") {
    const Copy copy("kube-1.28-ipvs-after");
    copy.remove("ipvs.save");
    say(copy, "ip_vs", "unused");
    CHECK(why(read(copy.path()), "ip_vs").starts_with("no virtual server is known of, but kube-ipvs0 has "));
    copy.write("ipvs.save", "");
    CHECK(why(read(copy.path()), "ip_vs").starts_with("no virtual server is known of, but kube-ipvs0 has "));
    const std::string only_eth0 = R"([{"ifname":"eth0","addr_info":[{"local":"192.168.0.2"}]}])";
    copy.write("addresses.json", only_eth0);
    copy.write("routes-local.json", R"([{"type":"local","dst":"192.168.0.2","dev":"eth0"}])");
    CHECK(why(read(copy.path()), "ip_vs") ==
          "no virtual server is known of, but rules are those of kube-proxy's ipvs mode");
    for (const std::string file : {"iptables-nft.save", "ip6tables-nft.save", "nft.json"}) {
        copy.remove(file);
    }
    say(copy, "nf_tables", "unused");
    CHECK(why(read(copy.path()), "ip_vs") == "no virtual server is known of, but set KUBE-CLUSTER-IP has Services");
    copy.remove("ipset.save");
    say(copy, "ipset", "unused");
    CHECK(why(read(copy.path()), "ip_vs") == "unused");
}

TEST_CASE("virtual servers that are cut off between two lines", "[dump]") {
    const Copy copy("kube-1.28-ipvs-after");
    const auto text = contents_of(copy.path() / "ipvs.save");
    copy.write("ipvs.save", text.substr(0, text.find("\n-A -t 10.96.") + 1));
    auto reason = why(read(copy.path()), "ip_vs");
    CHECK(reason.starts_with("no virtual server for 10.96.0."));
    CHECK(reason.find(" of set KUBE-CLUSTER-IP and ") != std::string::npos);
    copy.remove("ipset.save");  // then the device has them
    reason = why(read(copy.path()), "ip_vs");
    CHECK(reason.find(" on kube-ipvs0 and ") != std::string::npos);
}

TEST_CASE("sets that rules match are there", "[dump]") {
    const Copy copy("kube-1.28-ipvs-after");
    const auto text = contents_of(copy.path() / "ipset.save");
    copy.write("ipset.save", text.substr(0, text.rfind("\ncreate ") + 1));
    CHECK(why(read(copy.path()), "ipset").find("but rules match KUBE-") != std::string::npos);
    copy.remove("ipset.save");
    say(copy, "ipset", "unused");
    CHECK(why(read(copy.path()), "ipset").starts_with("sets are not known, but rules match "));
}

TEST_CASE("tables that one file has and another one lacks", "[dump]") {
    const Copy nft("kube-1.37-iptables-after");
    const auto save = contents_of(nft.path() / "iptables-nft.save");
    nft.write("iptables-nft.save", without_table(save, "filter"));
    CHECK(why(read(nft.path()), "nf_tables") ==
          "iptables-nft.save: no table filter in it, which nft.json has: saved with -t, or cut off");
    nft.write("iptables-nft.save", "");
    CHECK(why(read(nft.path()), "nf_tables").find("which nft.json has") != std::string::npos);
    auto fewer = save;  // a chain, its rules and the jumps to it
    const auto chain = fewer.substr(fewer.find("KUBE-SEP-"), 25);
    std::string lines;
    for (std::size_t begin = 0; begin < fewer.size();) {
        const auto end = fewer.find('\n', begin) + 1;
        if (const auto line = fewer.substr(begin, end - begin); line.find(chain) == std::string::npos) {
            lines += line;
        }
        begin = end;
    }
    nft.write("iptables-nft.save", lines);
    CHECK(why(read(nft.path()), "nf_tables") ==
          "iptables-nft.save: no chain " + chain +
              " in table nat, which nft.json has: not all of it, or of another time");
    nft.write("iptables-nft.save", save);
    nft.write("nft.json", R"({"nftables": [{"metainfo": {"version": "1.0.6"}}]})");
    CHECK(why(read(nft.path()), "nf_tables") ==
          "nft.json: no table filter in it, which iptables-nft.save has: not all "
          "of it, or of another time");

    const Copy legacy("kube-1.28-iptables-legacy");
    for (const std::string file : {"iptables-legacy", "ip6tables-legacy"}) {
        const auto whole = contents_of(legacy.path() / (file + ".save"));
        for (const std::string table : {"filter", "nat"}) {
            legacy.write(file + ".save", without_table(whole, table));
            CHECK(why(read(legacy.path()), file)
                      .starts_with(file + ".save: no table " + table + " in it, where the owner of chain "));
        }
        legacy.write(file + ".save", whole);
    }
}

TEST_CASE("tables that exist by the word of iptables-nft-save", "[dump]") {
    const Copy copy("kube-1.37-iptables-after");
    CHECK(why(read(copy.path()), "iptables-legacy") == "unused");
    const auto save = contents_of(copy.path() / "iptables-nft.save");
    copy.write("iptables-nft.save",
               "# Warning: iptables-legacy tables present, use iptables-legacy-save to see them\n" + save);
    CHECK(why(read(copy.path()), "iptables-legacy") ==
          "no table is known of, but iptables-nft.save says that there are some");
    CHECK(why(read(copy.path()), "ip6tables-legacy") == "unused");
    copy.write("iptables-legacy.save", "");
    CHECK(why(read(copy.path()), "iptables-legacy").starts_with("no table is known of"));
}

TEST_CASE("tables iptables-nft cannot read are taken from nft.json, and that is said", "[dump]") {
    const Copy copy;
    copy.write("nft.json", R"({"nftables": [
        {"chain": {"family": "ip", "table": "nat", "name": "PREROUTING", "type": "nat", "hook": "prerouting", "prio": -100}},
        {"chain": {"family": "ip", "table": "nat", "name": "CNI-HOSTPORT-DNAT"}},
        {"rule": {"family": "ip", "table": "nat", "chain": "PREROUTING", "handle": 3, "expr": [
            {"jump": {"target": "CNI-HOSTPORT-DNAT"}}]}},
        {"rule": {"family": "ip", "table": "nat", "chain": "CNI-HOSTPORT-DNAT", "handle": 4, "expr": [
            {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 80}},
            {"xt": {"type": "match", "name": "comment"}},
            {"dnat": {"addr": "10.0.0.1", "port": 80}}]}}]})");
    for (const std::string quote : {"`", "'"}) {
        copy.write("iptables-nft.save", "# Table " + quote + "nat' is incompatible, use 'nft' tool.\n");
        const auto state = read(copy.path());
        CHECK(why(state, "nf_tables") == "iptables-nft.save: iptables-nft could not read table nat");
        REQUIRE(state.unread_rules.size() == 1);
        CHECK(state.unread_rules[0].chain == "CNI-HOSTPORT-DNAT");
        CHECK(state.unread_rules[0].backend == Backend::iptables_nft);
    }
    copy.write("nft.json", R"({"nftables": []})");  // nor does that show it
    CHECK(why(read(copy.path()), "nf_tables") == "iptables-nft.save: iptables-nft could not read table nat");
}

TEST_CASE("a file under another's name is not taken for it", "[dump]") {
    const Copy copy("kube-1.28-iptables-legacy");
    const auto save = contents_of(copy.path() / "iptables-legacy.save");
    copy.write("iptables-legacy.save",
               "# Generated by iptables-nft-save v1.8.9 (nf_tables) on Sat Nov 28 12:46:44 2026\n" + save);
    const auto state = read(copy.path());
    CHECK(why(state, "iptables-legacy").starts_with("iptables-legacy.save: of iptables-nft, as its header says"));
    for (const auto& rule : state.hostports) {
        CHECK(rule.family == Family::ipv6);
    }
}

TEST_CASE("no sandbox is gone because its file is missing", "[dump]") {
    const Copy copy("kube-1.28-ipvs-after");
    CHECK(read(copy.path()).sandboxes_complete);
    for (const auto& entry : fs::directory_iterator(copy.path() / "cni-results")) {
        fs::remove(entry.path());
    }
    const auto state = read(copy.path());
    CHECK(why(state, "cni") == "cni-results is empty, but rules name 1 sandbox");
    CHECK_FALSE(state.sandboxes_complete);
    say(copy, "cni", "unused");
    CHECK_FALSE(read(copy.path()).sandboxes_complete);
}

TEST_CASE("addresses of one namespace with the routes of another", "[dump]") {
    const Copy copy("kube-1.28-ipvs-after");
    copy.write("routes-local.json",
               R"([{"type":"local","dst":"127.0.0.0/8","dev":"lo"},{"type":"local","dst":"10.9.9.9","dev":"eth0"}])");
    CHECK(why(read(copy.path()), "routes").find("is not local in it: not all of it, or of another time") !=
          std::string::npos);
    const Copy other("kube-1.37-iptables-after");
    other.write("routes-local.json",
                R"([{"type":"local","dst":"127.0.0.0/8","dev":"lo"},{"type":"local","dst":"::1","dev":"lo"}])");
    CHECK(why(read(other.path()), "routes") ==
          "no address of addresses.json is local in it: of another network namespace, or another time");
}
