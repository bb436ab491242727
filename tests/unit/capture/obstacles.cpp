// SPDX-License-Identifier: GPL-2.0-or-later
#include "capture/obstacles.hpp"

#include <catch2/catch_test_macros.hpp>
#include <sstream>

#include "capture/libbpf_log.hpp"
#include "capture/symbols.hpp"

using namespace hptrace;

TEST_CASE("the lockdown mode is the one in brackets") {
    CHECK(lockdown_mode("none [integrity] confidentiality\n") == "integrity");
    CHECK(lockdown_mode("[none] integrity confidentiality\n") == "none");
    CHECK(lockdown_mode("").empty());
    CHECK(lockdown_mode("]none[").empty());
}

TEST_CASE("only functions under exactly their name are there, with their module") {
    std::istringstream kallsyms(
        "ffffffff81000000 T nf_nat_setup_info\n"
        "ffffffff81000010 t nf_tables_commit\t[nf_tables]\n"
        "ffffffff81000020 t ip_vs_flush.isra.0\t[ip_vs]\n"
        "ffffffff81000030 d xt_replace_table\t[x_tables]\n"
        "ffffffff81000040 T nf_nat_setup_info_too\n"
        "broken\n\n"
        "0 T\n");
    const auto found =
        find_functions(kallsyms, {"nf_nat_setup_info", "nf_tables_commit", "ip_vs_flush", "xt_replace_table"});
    REQUIRE(found.size() == 2);
    CHECK(found.at("nf_nat_setup_info").empty());
    CHECK(found.at("nf_tables_commit") == "nf_tables");
    CHECK(is_built_in("nf_nat_setup_info", found));
    CHECK_FALSE(is_built_in("nf_tables_commit", found));
    CHECK_FALSE(is_built_in("ip_vs_flush", found));
}

TEST_CASE("a module that comes, goes or ends its initialisation changes the symbols, its users do not") {
    const auto layout = [](const char* text) {
        std::istringstream modules(text);
        return symbol_layout(modules);
    };
    const auto before = layout(
        "nf_nat 57344 0 - Live 0xffffffffc0a00000\n"
        "nf_conntrack 192512 1 nf_nat, Live 0xffffffffc0900000\n");
    CHECK(before == layout("nf_nat 57344 2 xt_nat,nft_chain_nat, Live 0xffffffffc0a00000\n"
                           "nf_conntrack 192512 3 nf_nat, Live 0xffffffffc0900000\n"));
    CHECK(before != layout("nf_nat 61440 0 - Live 0xffffffffc0a00000\n"
                           "nf_conntrack 192512 1 nf_nat, Live 0xffffffffc0900000\n"));
    CHECK(before != layout("nf_nat 57344 1 - Loading 0xffffffffc0a00000\n"
                           "nf_conntrack 192512 1 nf_nat, Live 0xffffffffc0900000\n"));
    CHECK(before != layout("nf_conntrack 192512 0 - Live 0xffffffffc0900000\n"));
    CHECK(layout("").empty());
}

TEST_CASE("the reason of a refusal is the verifier's last word, else libbpf's first") {
    CHECK(find_reason("libbpf: prog 'p': BPF program load failed: Invalid argument\n"
                      "libbpf: prog 'p': -- BEGIN PROG LOAD LOG --\n"
                      "0: R1=ctx()\n"
                      "unknown func bpf_probe_read_kernel#113\n"
                      "processed 3 insns (limit 1000000)\n"
                      "-- END PROG LOAD LOG --\n"
                      "libbpf: failed to load object 'nat_bpf'\n") == "unknown func bpf_probe_read_kernel#113");
    CHECK(find_reason("libbpf: failed to find valid kernel BTF\nlibbpf: failed to load object\n") ==
          "failed to find valid kernel BTF");
    CHECK(
        find_reason("libbpf: prog 'p': BPF program load failed: Operation not permitted\n"
                    "libbpf: permission error while running as root; try raising 'ulimit -l'? current value: 8.0 MiB\n"
                    "libbpf: prog 'p': failed to load: -1\nlibbpf: failed to load object 'x'\n")
            .empty());
    CHECK(find_reason("").empty());
}
