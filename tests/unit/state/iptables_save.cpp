// SPDX-License-Identifier: GPL-2.0-or-later
// Text of iptables-save: what it means, and that the kernel's rules read natively mean the same.
#include "state/iptables_save.hpp"

#include <catch2/catch_test_macros.hpp>

#include "same_rules.hpp"
#include "state/rule_text.hpp"

using namespace hptrace;

namespace {

RuleTable parsed(const std::string& rules, Family family = Family::ipv4, Backend backend = Backend::iptables_legacy) {
    const auto tables = value_of(parse_iptables_save(
        "*nat\n:PREROUTING ACCEPT [1:2]\n:A - [0:0]\n:TO - [0:0]\n" + rules + "\nCOMMIT\n", backend, family));
    return tables.at(0);
}

// The only rule of chain A.
Rule rule(const std::string& words, Family family = Family::ipv4) {
    return parsed("-A A " + words, family).find_chain("A")->rules.at(0);
}

std::string text(const std::string& words, Family family = Family::ipv4) {
    return rule_text(Backend::iptables_legacy, "A", rule(words, family));
}

std::string error_of(const std::string& text) {
    const auto tables = parse_iptables_save(text, Backend::iptables_legacy, Family::ipv4);
    return tables ? "understood" : describe(tables.error());
}

// Every form of match and target these readers know, in rules the kernel takes.
const std::string ipv4_rules = R"(*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:A - [0:0]
:DNAT-LIKE - [0:0]
-A PREROUTING -m comment --comment "a \"b\" \\ 'c' id: -j" -j A
-A PREROUTING -m comment --comment -j -j A
-A PREROUTING -m addrtype --dst-type LOCAL -j A
-A OUTPUT ! -d 127.0.0.0/8 -o lo -m addrtype ! --src-type LOCAL --dst-type MULTICAST,LOCAL -g A
-A OUTPUT -m addrtype --dst-type LOCAL --limit-iface-out -j A
-A POSTROUTING -s 10.0.0.0/9 -p tcp -j SNAT --to-source 192.0.2.1-192.0.2.9:1024-2000
-A POSTROUTING -p udp -j MASQUERADE --to-ports 1024-2000 --random-fully
-A A -s 10.0.0.0/255.0.255.0 -j RETURN
-A A -p tcp -m multiport --dports 80,443,8000:8100 -j DNAT-LIKE
-A A -p tcp -m multiport ! --sports 80,443 -j ACCEPT
-A A -p tcp -m multiport --ports 80,443 -j ACCEPT
-A A -p udp -m udp --sport 1:1023 ! --dport 53 -j RETURN
-A A -p sctp -m sctp --dport 99 -j DNAT-LIKE
-A A -p gre -j ACCEPT
-A A ! -p icmp -j DNAT-LIKE
-A A -p 99 -j DNAT-LIKE
-A A -i eth+ -m statistic --mode random --probability 0.5 -j RETURN
-A A ! -i eth0 -m conntrack ! --ctstate NEW -m comment --comment after
-A A -p tcp -m recent --rcheck --seconds 60 --reap --name x --mask 255.255.255.255 --rsource -m tcp -j DNAT --to-destination 10.0.0.1:80
-A A -p tcp -m tcp --dport 444 -j DNAT --to-destination 10.244.1.7-10.244.1.9:80-90 --random --persistent
-A A -p tcp -m tcp --dport 445 -j DNAT --to-destination 10.244.1.7
-A A -p tcp -m tcp --dport 446 -j DNAT --to-destination :80
-A A -p tcp -m tcp --dport 447:448 -j REDIRECT --to-ports 15001-15003
-A A -p tcp -m tcp --dport 449 -j REDIRECT
-A A -j MARK --set-xmark 0x4000/0x4000
-A A -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff
-A A -j ACCEPT
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A OUTPUT -d 10.96.0.1/32 -p tcp -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable
-A OUTPUT -m mark --mark 0x4000/0x4000 -j DROP
-A OUTPUT -m mark ! --mark 0x1 -j ACCEPT
COMMIT
)";

const std::string ipv6_rules = R"(*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:B - [0:0]
-A PREROUTING ! -d ::1/128 -p ipv6-icmp -j B
-A PREROUTING -d fd00::/9 ! -i eth0 -j B
-A B ! -s fe80::/10 -p tcp -m tcp --dport 80 -j DNAT --to-destination [2001:db8::2]:8080
-A B -p tcp -m tcp --dport 81 -j DNAT --to-destination [2001:db8::2-2001:db8::4]:80-90
-A B -p udp -m udp --dport 53:54 -j DNAT --to-destination 2001:db8::2
-A B -p udp -m udp --dport 55 -j DNAT --to-destination :80
COMMIT
)";

// Only in legacy: iptables-nft compares the header itself, and what is left of it is named by the header's part.
const std::string legacy_only = R"(*nat
:A - [0:0]
-A A -f -j RETURN
-A A -p tcp -m tcp --dport 80 --tcp-flags FIN,SYN SYN -j ACCEPT
-A A -p tcp -m tcp --tcp-option 3 --sport 5 -j ACCEPT
-A A -m limit --limit 5/sec -j ACCEPT
COMMIT
)";

}  // namespace

TEST_CASE("what iptables-save prints is read as the kernel's own rules are", "[dump]") {
    const auto check = [](const std::string& backend, Family family, const std::string& rules) {
        INFO(backend << ' ' << rules.substr(0, 60));
        const auto save = (family == Family::ipv4 ? "iptables-" : "ip6tables-") + backend + "-save";
        const auto [native, printed] = in_fresh_netns([&] {
            restore(backend, family, rules);
            return std::pair(unpacked(read_all()), output_of(save));
        });
        const auto from_text =
            parse_iptables_save(printed, backend == "nft" ? Backend::iptables_nft : Backend::iptables_legacy, family);
        REQUIRE(from_text);
        check_same(*from_text, native);
    };
    for (const auto* backend : {"legacy", "nft"}) {
        check(backend, Family::ipv4, ipv4_rules);
        check(backend, Family::ipv6, ipv6_rules);
    }
    check("legacy", Family::ipv4, legacy_only);
}

TEST_CASE("set matches are read with their sets' names", "[dump]") {
    const auto [native, printed] = in_fresh_netns([] {
        run("ipset create KUBE-CLUSTER-IP hash:ip,port && ipset create n bitmap:port range 0-65535");
        restore("legacy", Family::ipv4,
                "*nat\n-A OUTPUT ! -s 10.0.0.0/8 -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT\n"
                "-A OUTPUT -p tcp -m set ! --match-set n src -j RETURN\nCOMMIT\n");
        return std::pair(unpacked(read_all()), output_of("iptables-legacy-save"));
    });
    const auto from_text = parse_iptables_save(printed, Backend::iptables_legacy, Family::ipv4);
    REQUIRE(from_text);
    check_same(*from_text, native);
    CHECK(from_text->at(0).find_chain("OUTPUT")->rules.at(0).sets.at(0).value.set == "KUBE-CLUSTER-IP");
}

TEST_CASE("chains, hooks and counters are told apart", "[dump]") {
    const auto legacy = parsed("[12:34] -A A -p tcp -j TO\n# a comment\n\n-A A -j NONE");
    REQUIRE(legacy.chains.size() == 3);
    CHECK(legacy.chains[0].hook == "PREROUTING");
    CHECK(legacy.chains[1].hook == std::nullopt);
    CHECK(legacy.find_chain("A")->rules.at(0).target == Target{TargetKind::jump, "TO", {}, {}});
    CHECK(legacy.find_chain("A")->rules.at(1).target.kind == TargetKind::other);
    const auto nft = parsed("", Family::ipv4, Backend::iptables_nft);
    CHECK(nft.chains[0].priority == -100);
    CHECK(nft.chains[0].type == "nat");
    // Of other tables nothing is wanted, whatever they hold.
    const auto tables = parse_iptables_save("*mangle\n:A - [0:0]\n-A A --what\nCOMMIT\n", Backend::iptables_nft, {});
    REQUIRE(tables);
    CHECK(tables->empty());
}

TEST_CASE("what is not understood is named and does not hide the rest", "[dump]") {
    for (const auto& [words, unread] : std::initializer_list<std::pair<std::string, std::string>>{
             {"-p tcp -m tcp --dport 80 -m newmatch --foo 1 --bar -j TO", "newmatch"},
             {"-m tcp --dport 99999 -j TO", "-m tcp --dport 99999"},
             {"-m tcp --dport 9:8 -j TO", "-m tcp --dport 9:8"},
             {"-m tcp --dport 99999999999999999999999 -j TO", "-m tcp --dport 99999999999999999999999"},
             {"-m multiport --dports 80,x -j TO", "-m multiport --dports 80,x"},
             {"-m tcp --new-option 1 -j TO", "-m tcp --new-option 1"},
             {"-d 10.0.0.0/33 -j TO", "-d 10.0.0.0/33"},
             {"-d fd00::1 -j TO", "-d fd00::1"},
             {"-p newproto -j TO", "-p newproto"},
             {"-m addrtype --dst-type NEW -j TO", "-m addrtype --dst-type NEW"},
             {"-m mark --mark 0x1ffffffff -j TO", "-m mark --mark 0x1ffffffff"},
             {"-m set --match-set a up -j TO", "-m set --match-set a up"},
             {"! -j TO", ""},
             {"-m tcp \"--dport\" 80 -j TO", "-m tcp --dport 80"},
             {"--dport 80 -j TO", "--dport 80"},
         }) {
        INFO(words);
        const Rule read = rule(words);
        CHECK(read.unread == (unread.empty() ? std::vector<std::string>{} : std::vector{unread}));
        CHECK(read.target.name == "TO");
    }
    CHECK(text("-d 10.0.0.0/255.0.255.0 -j TO") == "-A A [address mask with holes] -j TO");
    for (const auto* words : {"-j DNAT --to-destination 10.0.0.1:99999", "-j DNAT --to-destination fd00::1", "-j DNAT",
                              "-j DNAT --to-destination 10.0.0.1:", "-j SNAT --to-source x",
                              "-j REDIRECT --to-ports 0x", "-j DNAT --to-destination"}) {
        INFO(words);
        CHECK(rule(words).unread.size() == 1);
        CHECK_FALSE(rule(words).target.to);
    }
    CHECK(rule("-j DNAT --to-destination [fd00::1:80", Family::ipv6).unread.size() == 1);
}

TEST_CASE("text that is cut off or none of iptables-save's is refused, with the line", "[dump]") {
    CHECK(error_of("*nat\n:A - [0:0]\n-A A -j ACCEPT\n") == "it is cut off: table nat has no COMMIT");
    CHECK(error_of("*nat\n:A - [0:0]\n-A A -m comment --comment \"open\nCOMMIT\n") == "line 3: a quote is not closed");
    CHECK(error_of("*nat\n:A - [0:0]\n-A B -j ACCEPT\nCOMMIT\n") ==
          "line 3: a rule in chain B, which table nat does not have");
    CHECK(error_of("*nat\n*filter\nCOMMIT\n") == "line 2: table filter begins before the COMMIT of table nat");
    CHECK(error_of("*nat\nCOMMIT\n*nat\nCOMMIT\n") == "line 3: table 'nat' begins a second time");
    CHECK(error_of("hello\n").starts_with("line 1: not what iptables-save prints"));
    CHECK(error_of("*nat\nhello\nCOMMIT\n") == "line 2: not what iptables-save prints: 'hello'");
    CHECK(error_of("*nat\n  \nCOMMIT\n").starts_with("line 2: not what iptables-save prints"));
    CHECK(error_of("*nat\n:A\nCOMMIT\n") == "line 2: a chain without a policy");
    CHECK(error_of("*nat\n-A\nCOMMIT\n").starts_with("line 2: "));
    CHECK(error_of("*nat\n:A - [0:0]\n:A - [0:0]\nCOMMIT\n") == "line 3: chain A is there twice");
    CHECK(error_of("*\n") == "line 1: table '' begins a second time");
    CHECK(error_of("") == "understood");
    // Every beginning of a good text is either understood or refused, never a crash.
    for (std::size_t length = 0; length <= ipv4_rules.size(); ++length) {
        static_cast<void>(error_of(ipv4_rules.substr(0, length)));
    }
}
