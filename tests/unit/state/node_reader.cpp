// SPDX-License-Identifier: GPL-2.0-or-later
// What the reader asks of which source, and when: with sources that count, and with real ones in a namespace.
#include <catch2/catch_test_macros.hpp>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "fresh_netns.hpp"
#include "state/reader.hpp"
#include "temporary_folder.hpp"

using namespace hptrace;

namespace {

Endpoint endpoint(const char* text) {
    return parse_endpoint(text).value();
}

RuleTable nat_table(Backend backend, Family family) {
    return {.backend = backend, .families = {family}, .name = "nat", .chains = {}, .sets = {}};
}

// Sources whose content is set by hand, with what was done to them since last asked: "asked" counts every question,
// "read" those that were answered by content.
class CountedSources {
public:
    std::vector<RuleTable> legacy_ipv4, legacy_ipv6, nf_tables;
    std::vector<VirtualServer> ip_vs;
    std::vector<IpSet> ipset;
    KubeSetQuestion set_question;  // the last one
    std::vector<LocalAddress> routes;
    Pods pods;
    std::map<std::string, std::uint64_t> version;
    std::map<std::string, Error> error;
    bool routes_changed = false;
    bool pods_changed = false;

    hptrace_changes changes{};
    std::uint32_t tracked = 7;
    std::function<void()> meanwhile = [] {};  // something that happens while the node is read

    NodeReader reader() {
        return {{.legacy_ipv4 = from("legacy_ipv4", legacy_ipv4),
                 .legacy_ipv6 = from("legacy_ipv6", legacy_ipv6),
                 .nf_tables = from("nf_tables", nf_tables),
                 .ip_vs = from("ip_vs", ip_vs),
                 .ipset =
                     [this, read = from("ipset", ipset)](const KubeSetQuestion& question, auto known) {
                         set_question = question;
                         return read(known);
                     },
                 .routes = from("routes", routes),
                 .routes_changed = [this] { return std::exchange(routes_changed, false); },
                 .pods = [this]() -> std::optional<Pods> {
                     return std::exchange(pods_changed, false) ? std::optional(pods) : std::nullopt;
                 },
                 .pods_announced = [this] { return pods_changed; }},
                {.now = [this](std::uint32_t) { return changes; }, .tracked = [this] { return tracked; }}};
    }  // NOLINT(clang-analyzer-cplusplus.NewDeleteLeaks): the reader owns its functions

    void change(hptrace_source source) {
        ++changes.begin[source];
        ++changes.end[source];
    }

    using Counts = std::map<std::string, int>;
    Counts asked() { return std::exchange(asked_, {}); }
    Counts read() { return std::exchange(read_, {}); }
    void forget() {
        asked_.clear();
        read_.clear();
    }

private:
    template <class T>
    NodeSources::Reader<T> from(std::string name, const T& content) {
        return [this, name = std::move(name), &content](std::optional<std::uint64_t> known) -> ReadIfNew<T> {
            ++asked_[name];
            const auto at = version[name];
            if (const auto failed = error.find(name); failed != error.end()) {
                return std::unexpected(failed->second);
            }
            if (known == at) {
                return std::nullopt;
            }
            ++read_[name];
            meanwhile();
            return Versioned<T>{at, content};
        };
    }

    Counts asked_;
    Counts read_;
};

using Counts = CountedSources::Counts;
// What announces nothing is asked every time.
const Counts silent{{"ipset", 1}};

Counts silent_and(Counts more) {
    more.insert(silent.begin(), silent.end());
    return more;
}

VirtualServer server(const char* address, const char* real_server) {
    return {
        .family = Family::ipv4, .protocol = 6, .address = endpoint(address), .real_servers = {endpoint(real_server)}};
}

}  // namespace

TEST_CASE("everything is read once, and nothing again while nothing changes", "[node_reader]") {
    CountedSources node;
    node.ip_vs = {server("10.96.0.10:3306", "10.224.0.224:3306")};
    auto reader = node.reader();
    const auto first = reader.read();
    CHECK(node.read().size() == 6);
    REQUIRE(first.state->services.size() == 1);
    CHECK(first.consistent());
    CHECK(first.watched);
    node.forget();
    const auto second = reader.read();
    CHECK(node.asked() == silent);
    CHECK(node.read().empty());
    CHECK(second.state == first.state);
    CHECK(second.boot_ns > first.boot_ns);
    CHECK_FALSE(reader.announced());
}

TEST_CASE("only the source whose counter moved is asked", "[node_reader]") {
    CountedSources node;
    node.legacy_ipv4 = {nat_table(Backend::iptables_legacy, Family::ipv4)};
    node.ip_vs = {server("10.96.0.10:3306", "10.224.0.224:3306")};
    auto reader = node.reader();
    const auto first = reader.read();
    node.forget();

    node.change(HPTRACE_SOURCE_IPVS);
    ++node.version["ip_vs"];
    node.ip_vs.push_back(server("10.96.0.11:80", "10.224.0.225:80"));
    const auto more = reader.read();
    CHECK(node.asked() == silent_and({{"ip_vs", 1}}));
    CHECK(more.state->services.size() == 2);
    CHECK(more.state->nat_tables.size() == 1);  // kept
    CHECK(more.changes.end[HPTRACE_SOURCE_IPVS] == 1);
    CHECK(first.state->services.size() == 1);  // a snapshot

    node.change(HPTRACE_SOURCE_NFTABLES);
    ++node.version["nf_tables"];
    node.nf_tables = {nat_table(Backend::iptables_nft, Family::ipv6)};
    CHECK(reader.read().state->nat_tables.size() == 2);
    CHECK(node.asked() == silent_and({{"nf_tables", 1}}));

    node.change(HPTRACE_SOURCE_XTABLES);
    ++node.version["legacy_ipv4"];
    node.legacy_ipv4.clear();
    CHECK(reader.read().state->nat_tables.size() == 1);
    CHECK(node.asked() == silent_and({{"legacy_ipv4", 1}, {"legacy_ipv6", 1}}));
}

TEST_CASE("another namespace's change costs a question, no read", "[node_reader]") {
    CountedSources node;
    auto reader = node.reader();
    const auto first = reader.read();
    node.forget();
    node.change(HPTRACE_SOURCE_NFTABLES);
    node.change(HPTRACE_SOURCE_XTABLES);
    const auto second = reader.read();
    CHECK(node.asked() == silent_and({{"nf_tables", 1}, {"legacy_ipv4", 1}, {"legacy_ipv6", 1}}));
    CHECK(node.read().empty());
    CHECK(second.state == first.state);
    CHECK(second.changes.end[HPTRACE_SOURCE_NFTABLES] == 1);
    reader.read();
    CHECK(node.asked() == silent);
}

TEST_CASE("sources whose counter cannot be relied on are asked every time", "[node_reader]") {
    CountedSources node;
    node.tracked = 1U << HPTRACE_SOURCE_NFTABLES;
    auto reader = node.reader();
    CHECK_FALSE(reader.read().watched);
    node.forget();
    reader.read();
    CHECK(node.asked() == silent_and({{"legacy_ipv4", 1}, {"legacy_ipv6", 1}, {"ip_vs", 1}}));
}

TEST_CASE("addresses are read when a change was announced", "[node_reader]") {
    CountedSources node;
    auto reader = node.reader();
    const auto first = reader.read();
    node.forget();
    node.routes_changed = true;
    node.routes = {{.prefix = parse_prefix("10.96.0.10/32").value(), .device = "kube-ipvs0"}};
    ++node.version["routes"];
    CHECK(reader.announced());
    CHECK(reader.announced());  // until it is read
    const auto second = reader.read();
    CHECK(node.asked() == silent_and({{"routes", 1}}));
    CHECK(second.state->find_local(parse_address("10.96.0.10").value()) != nullptr);
    CHECK_FALSE(reader.announced());

    node.pods_changed = true;
    node.pods.sandboxes.emplace_back().container_id = "aaa";
    node.pods.sources = {{"kubelet", {.state = SourceState::used, .why = {}}}};
    CHECK(reader.announced());
    const auto third = reader.read();
    CHECK(third.state->find_sandbox("aaa") != nullptr);
    CHECK(third.state->sources.at("kubelet").state == SourceState::used);
    CHECK_FALSE(reader.announced());
    CHECK(reader.read().state == third.state);
}

TEST_CASE("sets that exist announce nothing: the state is not watched, and they are compared", "[node_reader]") {
    CountedSources node;
    node.ip_vs = {server("192.168.0.2:30306", "10.224.0.224:3306")};
    node.ipset = {{.name = "KUBE-LOAD-BALANCER", .type = "hash:ip,port", .members = {}}};
    auto reader = node.reader();
    const auto first = reader.read();
    CHECK_FALSE(first.watched);
    REQUIRE(node.set_question.served.size() == 1);
    CHECK(node.set_question.served[0].address == endpoint("192.168.0.2:30306"));
    CHECK(reader.read().state == first.state);
    node.ipset[0].members = {
        {.ip = parse_address("192.168.0.2"), .port = std::uint16_t{30306}, .protocol = std::uint8_t{6}}};
    ++node.version["ipset"];
    const auto second = reader.read();
    CHECK(second.state->services.at(0).kind == ServiceKind::load_balancer);
    CHECK(first.state->services.at(0).kind == ServiceKind::cluster_ip);
}

TEST_CASE("what was read during a change is not believed, and read again afterwards", "[node_reader]") {
    CountedSources node;
    auto reader = node.reader();
    reader.read();
    node.forget();
    ++node.changes.begin[HPTRACE_SOURCE_NFTABLES];  // a commit that takes long
    CHECK_FALSE(reader.read().consistent());
    CHECK(node.asked().at("nf_tables") > 1);
    ++node.changes.end[HPTRACE_SOURCE_NFTABLES];
    ++node.version["nf_tables"];
    node.nf_tables = {nat_table(Backend::iptables_nft, Family::ipv4)};
    const auto after = reader.read();
    CHECK(after.consistent());
    CHECK(after.state->nat_tables.size() == 1);
}

TEST_CASE("a change while it is read: only its source is read again", "[node_reader]") {
    CountedSources node;
    auto reader = node.reader();
    reader.read();
    node.forget();
    node.change(HPTRACE_SOURCE_IPVS);
    ++node.version["ip_vs"];
    node.ip_vs = {server("10.96.0.10:3306", "10.224.0.224:3306")};
    node.meanwhile = [&, once = true]() mutable {
        if (std::exchange(once, false)) {
            node.change(HPTRACE_SOURCE_XTABLES);
        }
    };
    const auto read = reader.read();
    CHECK(read.consistent());
    CHECK(read.changes.end[HPTRACE_SOURCE_XTABLES] == 1);
    const auto asked = node.asked();
    CHECK(asked.at("ip_vs") == 1);
    CHECK(asked.at("legacy_ipv4") == 1);
    CHECK_FALSE(asked.contains("nf_tables"));
}

TEST_CASE("a reading that changes overtake says between which counters it is from", "[node_reader]") {
    CountedSources node;
    auto reader = node.reader();
    reader.read();
    node.meanwhile = [&] {
        node.change(HPTRACE_SOURCE_IPVS);
        ++node.version["ip_vs"];
    };
    node.change(HPTRACE_SOURCE_IPVS);
    ++node.version["ip_vs"];
    const auto read = reader.read();
    CHECK_FALSE(read.consistent());
    CHECK(read.changes.end[HPTRACE_SOURCE_IPVS] + 1 == read.changes_after.begin[HPTRACE_SOURCE_IPVS]);
}

TEST_CASE("counters that wrap around are noticed", "[node_reader]") {
    CountedSources node;
    node.changes.begin[HPTRACE_SOURCE_IPVS] = node.changes.end[HPTRACE_SOURCE_IPVS] = UINT32_MAX;
    auto reader = node.reader();
    reader.read();
    node.forget();
    node.change(HPTRACE_SOURCE_IPVS);
    reader.read();
    CHECK(node.asked() == silent_and({{"ip_vs", 1}}));
}

TEST_CASE("what could never be read is asked again every time", "[node_reader]") {
    CountedSources node;
    node.ip_vs = {server("10.96.0.10:3306", "10.224.0.224:3306")};
    node.error["ip_vs"] = {.what = "ip_vs: cannot receive", .code = 0, .hint = {}};
    auto reader = node.reader();
    const auto unread = reader.read();
    CHECK(unread.state->services.empty());
    CHECK(unread.state->sources.at("ip_vs").state == SourceState::unreadable);
    CHECK(reader.read().state == unread.state);
    node.error.clear();
    const auto found = reader.read();
    CHECK(found.state->services.size() == 1);
    CHECK(found.state->sources.at("ip_vs").state == SourceState::used);
}

TEST_CASE("what cannot be read any more is kept, as what it is: from before", "[node_reader]") {
    CountedSources node;
    node.ip_vs = {server("10.96.0.10:3306", "10.224.0.224:3306")};
    auto reader = node.reader();
    const auto first = reader.read();
    node.error["ip_vs"] = {.what = "ip_vs: changed while being read", .code = 0, .hint = {}};
    CHECK(reader.read().state == first.state);  // nothing asked for it
    node.change(HPTRACE_SOURCE_IPVS);
    ++node.version["ip_vs"];
    node.ip_vs.push_back(server("10.96.0.11:80", "10.224.0.225:80"));
    const auto kept = reader.read();
    CHECK(kept.state->services.size() == 1);
    const auto& status = kept.state->sources.at("ip_vs");
    CHECK(status.state == SourceState::used);
    CHECK(status.why == "ip_vs: changed while being read");
    REQUIRE(status.kept_from_ns);
    CHECK(*status.kept_from_ns >= first.boot_ns);
    // It began with what is kept, and so is nobody's state after that.
    CHECK(kept.boot_ns == *status.kept_from_ns);
    CHECK(kept.changes.end[HPTRACE_SOURCE_IPVS] == 0);
    CHECK(kept.changes_after.end[HPTRACE_SOURCE_IPVS] == 1);
    CHECK_FALSE(kept.consistent());
    // Of other sources it is as current as ever.
    node.change(HPTRACE_SOURCE_NFTABLES);
    ++node.version["nf_tables"];
    node.nf_tables = {nat_table(Backend::iptables_nft, Family::ipv4)};
    const auto later = reader.read();
    CHECK(later.state->nat_tables.size() == 1);
    CHECK(later.changes.end[HPTRACE_SOURCE_NFTABLES] == 1);
    CHECK(later.changes.end[HPTRACE_SOURCE_IPVS] == 0);
    CHECK(later.boot_ns == kept.boot_ns);
    // Its counter stands still, and it is asked all the same.
    node.forget();
    reader.read();
    CHECK(node.asked().contains("ip_vs"));
    node.error.clear();
    const auto back = reader.read();
    CHECK(back.state->services.size() == 2);
    CHECK_FALSE(back.state->sources.at("ip_vs").kept_from_ns);
    CHECK(back.consistent());
    CHECK(back.boot_ns > kept.boot_ns);
}

TEST_CASE("what is kept turns out to be as it was", "[node_reader]") {
    CountedSources node;
    node.routes = {{.prefix = parse_prefix("10.96.0.10/32").value(), .device = "kube-ipvs0"}};
    auto reader = node.reader();
    const auto first = reader.read();
    node.routes_changed = true;
    node.error["routes"] = {.what = "routes: netlink data lost", .code = ENOBUFS, .hint = {}};
    const auto kept = reader.read();
    CHECK(kept.state->find_local(parse_address("10.96.0.10").value()) != nullptr);
    CHECK(kept.state->sources.at("routes").kept_from_ns);
    CHECK(kept.boot_ns < first.boot_ns + first.took_ns);
    node.error.clear();
    const auto back = reader.read();  // though nothing is announced
    CHECK_FALSE(back.state->sources.at("routes").kept_from_ns);
    CHECK(back.state->sources.at("routes").why.empty());
    CHECK(back.boot_ns > kept.boot_ns);
}

TEST_CASE("sets that cannot be read any more do not age a reading: they only tell kinds", "[node_reader]") {
    CountedSources node;
    node.ipset = {{.name = "KUBE-LOAD-BALANCER", .type = "hash:ip,port", .members = {}}};
    auto reader = node.reader();
    const auto first = reader.read();
    node.error["ipset"] = {.what = "ipset: busy", .code = 0, .hint = {}};
    const auto kept = reader.read();
    CHECK(kept.state->sources.at("ipset").kept_from_ns);
    CHECK(kept.boot_ns > first.boot_ns);
}

TEST_CASE("a long reading of nf_tables is from after what it found to be current, not from when it began",
          "[node_reader]") {
    CountedSources node;
    auto reader = node.reader();
    reader.read();
    node.change(HPTRACE_SOURCE_NFTABLES);
    ++node.version["nf_tables"];
    node.nf_tables = {nat_table(Backend::iptables_nft, Family::ipv4)};
    node.forget();
    node.meanwhile = [&, once = true]() mutable {
        if (std::exchange(once, false)) {  // a change that the reading includes: its generation is the last one
            std::this_thread::sleep_for(std::chrono::milliseconds(110));
            node.change(HPTRACE_SOURCE_NFTABLES);
        }
    };
    const auto read = reader.read();
    CHECK(read.changes.end[HPTRACE_SOURCE_NFTABLES] == 2);
    CHECK(read.consistent());
    CHECK(node.read() == Counts{{"nf_tables", 1}});
    CHECK(node.asked().at("nf_tables") == 2);
}

TEST_CASE("a source whose changes are counted from now on is read once more", "[node_reader]") {
    CountedSources node;
    node.tracked = 0;
    auto reader = node.reader();
    reader.read();
    node.tracked = 7;  // what changed in between is not in the counters
    node.forget();
    reader.read();
    CHECK(node.asked().contains("ip_vs"));
    reader.read();
    CHECK(node.asked() == silent);
}

namespace {

// The sources of a namespace, with what each was asked for.
NodeSources counting(NodeSources sources, Counts& asked) {
    const auto count = [&asked](auto& read, const std::string& name) {
        read = [&asked, name, inner = std::move(read)](const auto&... question) {
            auto answer = inner(question...);
            // A source that is read anew gives content.
            if (answer && *answer) {
                ++asked[name];
            }
            return answer;
        };
    };
    count(sources.legacy_ipv4, "legacy_ipv4");
    count(sources.legacy_ipv6, "legacy_ipv6");
    count(sources.nf_tables, "nf_tables");
    count(sources.ip_vs, "ip_vs");
    count(sources.ipset, "ipset");
    count(sources.routes, "routes");
    sources.pods = [&asked, inner = std::move(sources.pods)] {
        auto pods = inner();
        if (pods) {
            ++asked["pods"];
        }
        return pods;
    };
    return sources;
}

}  // namespace

TEST_CASE("a real node: only what changed is read again", "[node_reader]") {
    // Step by step: what was read, and the state it led to. All counters move at every step, as if other namespaces
    // changed as well.
    struct Step {
        std::string what;
        Counts read;
        bool same_state = false;
        StateRead result{};
    };
    const auto steps = in_fresh_netns([] {
        run("ip link set lo up");
        run("iptables-legacy -w -t nat -A PREROUTING -p tcp --dport 1 -j ACCEPT");
        run("iptables-nft -w -t nat -A PREROUTING -p tcp --dport 2 -j ACCEPT");
        const TemporaryFolder root;
        const auto cni = root.path() / PodFolders().cni_results;
        std::filesystem::create_directories(cni);
        Counts read;
        hptrace_changes changes{};
        NodeReader reader(counting(native_sources(PodFolders::below(root.path())), read),
                          {.now = [&](std::uint32_t) { return changes; }, .tracked = [] { return 7U; }});
        NodeStatePtr last;
        std::vector<Step> seen;
        const auto step = [&](const std::string& what) {
            for (const auto source : {HPTRACE_SOURCE_XTABLES, HPTRACE_SOURCE_NFTABLES, HPTRACE_SOURCE_IPVS}) {
                ++changes.begin[source];
                ++changes.end[source];
            }
            auto result = reader.read();
            seen.push_back({what, std::exchange(read, {}), result.state == last, result});
            last = result.state;
        };
        step("everything");
        step("nothing");
        run("iptables-nft -w -t nat -A PREROUTING -p tcp --dport 3 -j ACCEPT");
        step("an nft rule");
        run("iptables-legacy -w -t nat -A PREROUTING -p tcp --dport 4 -j ACCEPT");
        step("a legacy rule");
        run("ping -c 1 -W 1 127.0.0.1 >/dev/null 2>&1 || true");
        run("iptables-legacy -w -t nat -Z");
        step("packet counters");
        run("ip addr add 192.0.2.7/32 dev lo");
        step("an address");
        // Its route comes a little later.
        run("ip -6 addr add 2001:db8::7/128 dev lo nodad && "
            "until ip -6 route show table local | grep -q 2001:db8::7; do sleep 0.01; done");
        step("an IPv6 address");
        run("ip addr del 192.0.2.7/32 dev lo");
        step("an address goes");
        run("ip route add blackhole 203.0.113.0/24");
        step("a route");
        // There is nothing that sets could tell of: neither virtual servers nor hostPorts.
        run("ipset create KUBE-CLUSTER-IP hash:ip,port");
        step("a set");
        run("ipset add KUBE-CLUSTER-IP 10.96.0.10,tcp:3306");
        step("a member");
        std::ofstream(cni / ("cbr0-" + std::string(64, 'a') + "-eth0"))
            << R"({"cniVersion":"1.0.0","ips":[{"address":"10.224.0.9/24"}]})";
        step("a sandbox");
        run("nft flush ruleset");
        step("no nft rules");
        return seen;
    });
    const std::vector<std::pair<std::string, Counts>> wanted{
        {"everything",
         {{"legacy_ipv4", 1},
          {"legacy_ipv6", 1},
          {"nf_tables", 1},
          {"ip_vs", 1},
          {"ipset", 1},
          {"routes", 1},
          {"pods", 1}}},
        {"nothing", {}},
        {"an nft rule", {{"nf_tables", 1}}},
        {"a legacy rule", {{"legacy_ipv4", 1}}},
        {"packet counters", {}},
        {"an address", {{"routes", 1}}},
        {"an IPv6 address", {{"routes", 1}}},
        {"an address goes", {{"routes", 1}}},
        {"a route", {}},
        {"a set", {}},
        {"a member", {}},
        {"a sandbox", {{"pods", 1}}},
        {"no nft rules", {{"nf_tables", 1}}},
    };
    REQUIRE(steps.size() == wanted.size());
    for (std::size_t i = 0; i < steps.size(); ++i) {
        INFO(wanted[i].first);
        CHECK(steps[i].what == wanted[i].first);
        CHECK(steps[i].read == wanted[i].second);
        CHECK(steps[i].same_state == wanted[i].second.empty());
    }
    const auto has = [](const Step& step, const char* address) {
        return step.result.state->find_local(parse_address(address).value()) != nullptr;
    };
    CHECK_FALSE(has(steps[4], "192.0.2.7"));
    CHECK(has(steps[5], "192.0.2.7"));
    CHECK(has(steps[6], "2001:db8::7"));
    CHECK_FALSE(has(steps[7], "192.0.2.7"));
    CHECK(steps.back().result.state->find_sandbox(std::string(64, 'a')) != nullptr);
    CHECK(steps[0].result.state->nat_tables.size() == 2);
    CHECK(steps.back().result.state->nat_tables.size() == 1);
}

TEST_CASE("what announces itself is noticed without reading", "[node_reader]") {
    const auto noticed = in_fresh_netns([] {
        run("ip link set lo up");
        const TemporaryFolder root;
        const auto cni = root.path() / PodFolders().cni_results;
        std::filesystem::create_directories(cni);
        NodeReader reader(native_sources(PodFolders::below(root.path())), {.now = {}});
        std::vector<bool> seen;
        reader.read();
        seen.push_back(reader.announced());
        run("ip addr add 192.0.2.7/32 dev lo");
        seen.push_back(reader.announced());
        reader.read();
        seen.push_back(reader.announced());
        std::ofstream(cni / "file") << "{}";
        seen.push_back(reader.announced());
        reader.read();
        seen.push_back(reader.announced());
        return seen;
    });
    CHECK(noticed == std::vector{false, true, false, true, false});
}
