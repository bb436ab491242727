// SPDX-License-Identifier: GPL-2.0-or-later
// The files of a dump, one by one: missing, broken, empty, copied through other systems.
#include <catch2/catch_test_macros.hpp>
#include <optional>

#include "dump_folder.hpp"
#include "state/dump_files.hpp"
#include "state/json_read.hpp"
#include "state/save_notes.hpp"
#include "without_proc.hpp"

using namespace hptrace;

TEST_CASE("a file that is missing is unused only if meta.json says so", "[dump]") {
    const Copy copy("kube-1.37-iptables-other-backend");
    const auto state_without = [&](const std::string& file) {
        fs::remove_all(copy.path() / file);
        return read(copy.path());
    };
    CHECK(why(read(copy.path()), "ip_vs") == "unused");
    CHECK(why(state_without("nft.json"), "nf_tables") == "nft.json is not in the dump");
    CHECK(why(state_without("iptables-legacy.save"), "iptables-legacy") == "iptables-legacy.save is not in the dump");
    CHECK(why(read(copy.path()), "ip6tables-legacy") == "used");
    CHECK(why(state_without("ip6tables-legacy.save"), "ip6tables-legacy") ==
          "ip6tables-legacy.save is not in the dump");
    CHECK(why(state_without("cni-results"), "cni") == "cni-results is not in the dump");
    const auto unknown = state_without("meta.json");
    CHECK(unknown.node.empty());
    CHECK(why(unknown, "ip_vs") == "ipvs.save is not in the dump");
    CHECK(why(unknown, "ipset") == "ipset.save is not in the dump");
    CHECK(why(unknown, "routes") == "used");
    CHECK(why(state_without("routes-local.json"), "routes") == "routes-local.json is not in the dump");
    CHECK(why(state_without("addresses.json"), "addresses") == "addresses.json is not in the dump");

    const Copy other("kube-1.37-iptables-after");
    fs::remove(other.path() / "iptables-nft.save");
    CHECK(why(read(other.path()), "nf_tables") == "iptables-nft.save is not in the dump");
    // What is there is used all the same.
    CHECK(std::ranges::any_of(read(other.path()).hostports,
                              [](const HostPortRule& rule) { return rule.family == Family::ipv6; }));
    other.write("meta.json", R"({"node": "n", "sources": {"ip_vs": {"state": "unreadable", "why": "not permitted"}}})");
    CHECK(why(read(other.path()), "ip_vs") == "not permitted");
    other.write("ipvs.save", "-A -t 10.96.0.10:3306 -s rr\n");
    CHECK(why(read(other.path()), "ip_vs") == "not permitted");
}

TEST_CASE("a file that cannot be parsed is unreadable, and says where", "[dump]") {
    const Copy copy("kube-1.37-iptables-other-backend");
    for (const auto* file : {"iptables-legacy.save", "ip6tables-nft.save", "routes-local.json", "addresses.json"}) {
        copy.cut_in_half(file);
    }
    auto state = read(copy.path());
    CHECK(why(state, "iptables-legacy").starts_with("iptables-legacy.save: "));
    CHECK(why(state, "nf_tables").starts_with("ip6tables-nft.save: "));
    CHECK(why(state, "routes") == "routes-local.json: line 1: not JSON, or cut off");
    CHECK(why(state, "addresses") == "addresses.json: line 1: not JSON, or cut off");
    CHECK(state.hostports.size() == 4);  // of ip6tables-legacy
    copy.cut_in_half("nft.json");
    copy.write("ipvs.save", "-A -t nonsense\n");
    copy.write("ipset.save", "create KUBE-A hash:ip\nadd KUBE-A 1.2.3\n");
    copy.write("cni-results/broken", "{");
    state = read(copy.path());
    CHECK(why(state, "nf_tables").starts_with("nft.json: line "));
    CHECK(why(state, "ip_vs").starts_with("ipvs.save: line 1: "));
    CHECK(why(state, "ipset").starts_with("ipset.save: line 2: "));
    CHECK(why(state, "cni").find("broken: not a JSON object") != std::string::npos);
    fs::remove(copy.path() / "ipvs.save");
    fs::create_directory(copy.path() / "ipvs.save");
    CHECK(why(read(copy.path()), "ip_vs") == "ipvs.save: not a file but a directory");

    const auto error = [&](const std::string& meta) {
        copy.write("meta.json", meta);
        const auto result = read_dump(copy.path());
        return result ? "read" : describe(result.error()).substr(copy.path().string().size());
    };
    CHECK(error("{\n\"node\":") == "/meta.json: line 2: not JSON, or cut off");
    CHECK(error("[]") == "/meta.json: no \"sources\" in it");
    CHECK(error(R"({"sources": {"ip_vs": {"state": "maybe"}}})") == "/meta.json: source ip_vs: unknown state 'maybe'");
    CHECK(error(R"({"sources": {"ip_vs": 5}})") == "/meta.json: source ip_vs: unknown state ''");
}

TEST_CASE("what is no dump is refused", "[dump]") {
    const Copy empty("");
    CHECK(describe(read_dump(empty.path()).error()).find("is no dump") != std::string::npos);
    CHECK(describe(read_dump(empty.path() / "none").error()).find("No such file") != std::string::npos);
    empty.write("nft.json", "{}");
    CHECK(describe(read_dump(empty.path() / "nft.json").error()).find("Not a directory") != std::string::npos);
    CHECK_FALSE(read_dump(""));
}

TEST_CASE("ip_vs and its sets give Services; IPv6 addresses come from the interfaces if no route shows them",
          "[dump]") {
    const Copy copy("");
    copy.write("ipvs.save",
               "-A -t 10.96.0.10:3306 -s rr\n-a -t 10.96.0.10:3306 -r 10.244.1.9:3306 -m -w 1\n"
               "-A -t 192.168.0.2:30306 -s rr\n-A -f 7 -s rr\n");
    copy.write("ipset.save",
               "create KUBE-CLUSTER-IP hash:ip,port\nadd KUBE-CLUSTER-IP 10.96.0.10,tcp:3306\n"
               "create KUBE-NODE-PORT-TCP bitmap:port range 0-65535\nadd KUBE-NODE-PORT-TCP 30306\n");
    copy.write("routes-local.json", R"([{"type":"local","dst":"10.96.0.10","dev":"kube-ipvs0"}])");
    copy.write("addresses.json", R"([{"ifname":"kube-ipvs0","addr_info":[{"local":"10.96.0.10","prefixlen":32},
                                     {"local":"fd00::a","prefixlen":128}]}])");
    const auto state = read(copy.path());
    REQUIRE(state.services.size() == 2);
    CHECK(state.services[0].kind == ServiceKind::cluster_ip);
    CHECK(state.services[0].endpoints.size() == 1);
    CHECK(state.services[1].kind == ServiceKind::node_port);
    CHECK(state.skipped_virtual_servers == 1);
    CHECK(state.proxy == ProxyMode::ipvs);
    CHECK(state.local_addresses.size() == 2);
    REQUIRE(state.find_local(parse_address("fd00::a").value()) != nullptr);
    CHECK(state.find_local(parse_address("fd00::a").value())->device == "kube-ipvs0");
}

TEST_CASE("a tool's output is read whatever it was copied through", "[dump]") {
    const auto text = [](const std::string& raw, DumpFormat format = DumpFormat::save) {
        const auto plain = plain_text(raw, format);
        return plain ? *plain : "error: " + describe(plain.error());
    };
    CHECK(text("a\r\nb\r\n") == "a\nb\n");
    CHECK(text("\xef\xbb\xbf*nat\n") == "*nat\n");
    CHECK(text("a\rb\n") == "a\rb\n");
    CHECK(text("").empty());
    CHECK(text("a\nb") == "error: its last line has no end: cut off");
    CHECK(text("a\r\nb\r") == "error: its last line has no end: cut off");
    CHECK(text("{}", DumpFormat::json) == "{}");
    CHECK(text(std::string("a\n\0\0", 4)) == "error: NUL bytes in it: not written to its end, or not text");
    CHECK(text("\xff\xfe*") == "error: UTF-16 text (PowerShell's > makes it; save it as UTF-8)");
}

TEST_CASE("a whole dump with the line ends and marks of Windows says the same", "[dump]") {
    for (const std::string name : {"kube-1.28-ipvs-after", "kube-1.37-iptables-other-backend"}) {
        const Copy copy(name);
        const auto before = read(copy.path());
        for (const auto& entry : fs::directory_iterator(copy.path())) {
            if (!entry.is_regular_file()) {
                continue;
            }
            std::string text = "\xef\xbb\xbf";
            for (const char c : contents_of(entry.path())) {
                text += c == '\n' ? std::string("\r\n") : std::string(1, c);
            }
            copy.write(entry.path().filename(), text);
        }
        const auto after = read(copy.path());
        CHECK(after.all_sources_read());
        CHECK(after.unread_rules.empty());
        CHECK(after.services.size() == before.services.size());
        REQUIRE(after.hostports.size() == before.hostports.size());
        for (std::size_t i = 0; i < after.hostports.size(); ++i) {
            CHECK(after.hostports[i].text == before.hostports[i].text);
            CHECK(after.hostports[i].container_id == before.hostports[i].container_id);
        }
    }
}

TEST_CASE("a tool's complaint instead of its output is quoted, and no more of it than fits", "[dump]") {
    const Copy copy("kube-1.28-ipvs-legacy");
    const std::string denied =
        "iptables-save v1.8.9 (legacy): Cannot initialize: Permission denied (you must be root)\n";
    for (const std::string file : {"iptables-legacy.save", "ipvs.save", "ipset.save", "addresses.json"}) {
        copy.write(file, denied);
    }
    copy.write("routes-local.json", std::string(5'000'000, 'x'));
    const auto state = read(copy.path());
    for (const std::string source : {"iptables-legacy", "ip_vs", "ipset", "addresses", "routes"}) {
        INFO(why(state, source));
        CHECK(why(state, source).find(source == "routes" ? "xxx..." : "v1.8.9 (legacy): Cannot initialize") !=
              std::string::npos);
        CHECK(why(state, source).size() < 400);
    }
    // Whatever is as long, wherever it stands.
    const std::string big(200'000, 'A');
    copy.write("iptables-legacy.save", "*nat\n:" + big + " - [0:0]\nCOMMIT\n");
    copy.write("ipvs.save", "-A -t " + big.substr(0, 60'000) + " -s rr\n");
    copy.write("ipset.save", "create " + big.substr(0, 60'000) + " x\n");
    copy.write("routes-local.json", R"([{"type":"local","dst":")" + big + R"("}])");
    copy.write("meta.json", R"({"sources": {"cni": {"state": "unreadable", "why": ")" + big + R"("}}})");
    for (const auto& [source, status] : read(copy.path()).sources) {
        INFO(source << ": " << status.why.substr(0, 500));
        CHECK(status.why.size() < 400);
    }
    copy.write("meta.json", R"({"sources": {"cni": {"state": ")" + big + R"("}}})");
    CHECK(describe(read_dump(copy.path()).error()).size() < 400);
}

TEST_CASE("a number that no type holds makes its file unread, whichever it is", "[dump]") {
    const std::string number = R"({"a": 1e999})";
    for (const auto& [file, source] :
         {std::pair{"nft.json", "nf_tables"}, std::pair{"addresses.json", "addresses"},
          std::pair{"routes-local.json", "routes"}, std::pair{"cni-results/x-y-eth0", "cni"}}) {
        const Copy copy("kube-1.37-iptables-after");
        copy.write(file, number);
        INFO(file);
        CHECK(read(copy.path()).sources.at(source).state == SourceState::unreadable);
    }
    const Copy copy("kube-1.37-iptables-after");
    copy.write("meta.json", number);
    CHECK_FALSE(read_dump(copy.path()));
}

TEST_CASE("the header of a save tells of which back end and family it is", "[dump]") {
    const auto told = [](const std::string& header, Backend backend, Family family = Family::ipv4) {
        const auto notes =
            read_save_notes("# Generated by " + header + " on Sat Nov 28 12:46:44 2026\n*nat\n", backend, family);
        return notes ? std::string("fits") : describe(notes.error());
    };
    for (const std::string header : {"iptables-nft-save v1.8.9 (nf_tables)", "iptables-save v1.8.10 (nf_tables)",
                                     "xtables-save v1.8.2", "iptables-nft-save v1.8.7"}) {
        CHECK(told(header, Backend::iptables_nft) == "fits");
        CHECK(told(header, Backend::iptables_legacy)
                  .starts_with("of iptables-nft, as its header says ('# Generated by "));
    }
    for (const std::string header :
         {"iptables-save v1.8.9 (legacy)", "iptables-legacy-save v1.8.7", "iptables-save v1.8.11"}) {
        CHECK(told(header, Backend::iptables_legacy) == "fits");
        CHECK(told(header, Backend::iptables_nft).starts_with("of iptables-legacy, as its header says"));
    }
    for (const std::string header :
         {"iptables-save v1.8.7", "iptables-save v1.4.21", "iptables-save", "iptables-save vx.y"}) {
        CHECK(told(header, Backend::iptables_legacy) == "fits");  // then the file's name counts
        CHECK(told(header, Backend::iptables_nft) == "fits");
    }
    CHECK(told("ip6tables-save v1.8.7", Backend::iptables_legacy).starts_with("of IPv6, as its header says"));
    CHECK(told("ip6tables-save v1.8.7", Backend::iptables_legacy, Family::ipv6) == "fits");
    CHECK(told("iptables-save v1.8.7", Backend::iptables_legacy, Family::ipv6)
              .starts_with("of IPv4, as its header says"));
}

TEST_CASE("a dump is read whole where there is no /proc", "[dump]") {
    for (const auto& folder : dumps()) {
        INFO(folder.filename());
        const auto usual = read(folder);
        std::optional<NodeState> bare;
        const bool done = without_proc([&] { bare = read(folder); });
        REQUIRE(done);
        REQUIRE(bare.has_value());
        CHECK(bare->sandboxes.size() == usual.sandboxes.size());
        CHECK(bare->services.size() == usual.services.size());
        CHECK(bare->hostports.size() == usual.hostports.size());
        CHECK(bare->unread_rules.size() == usual.unread_rules.size());
        for (const auto& [name, status] : usual.sources) {
            INFO(name);
            CHECK(bare->sources.at(name).state == status.state);
            CHECK(bare->sources.at(name).why == status.why);
        }
    }
}
