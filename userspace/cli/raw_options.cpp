// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/raw_options.hpp"

namespace hptrace {

namespace {

constexpr const char* description =
    "Shows which connections to Kubernetes Services a hostPort takes over on this node, which rule does it, whose it\n"
    "is, why it wins and what to do. Reads the node without changing it. Needs root.\n";

constexpr const char* commands = R"(
Commands:
  hptrace [trace] [OPTIONS] [-- COMMAND ...]   connections as they are made (this page)
  hptrace audit [OPTIONS]                      conflicts that exist now, before any traffic
  hptrace doctor [OPTIONS]                     what this kernel offers, what is missing, what to do
)";

constexpr const char* footer = R"(
Examples:
  hptrace --port 3306                      follow connections to port 3306
  hptrace --port 3306 --only hijacked      show hijacked ones only
  hptrace --port 80,8000-8100 --proto tcp --json
  hptrace --journald                       for weeks: tell the journal what is wrong
  hptrace --existing                       judge the connections conntrack knows already, then stop
  hptrace -p 3306 -- mysql -h 10.96.0.10   trace while this command runs
  hptrace audit                            which Services a hostPort can take over
  hptrace audit --from DIR                 the same of another node, from what its tools printed

Verdicts: hijacked (a hostPort took a connection to a Service), stale, foreign, bypassed, proxied, exposed, hostport,
ok, other, unknown, unsettled.

Exit status: 3 a hijack (or a stale or foreign rewrite of a Service) was seen; 4 none was seen, but records were lost,
something could not be read, or there are no Services in this network namespace; 0 none; 2 usage; 1 anything else.
)";

void add_filter_options(CLI::App& app, RawOptions& raw) {
    app.add_option("-p,--port", raw.ports, "Original destination port: 3306, 80,443 or 8000-8100")
        ->type_name("PORTS")
        ->allow_extra_args(false);
    app.add_option("--proto", raw.protocols, "tcp, udp or sctp (a list is fine)")
        ->type_name("PROTO")
        ->allow_extra_args(false);
    app.add_option("--dest", raw.dest, "Original or rewritten destination address")->type_name("CIDR");
    auto* ipv4 = app.add_flag("-4", raw.ipv4, "IPv4 only");
    app.add_flag("-6", raw.ipv6, "IPv6 only")->excludes(ipv4);
    app.add_flag("--json", raw.json, "One JSON object per line");
}

void add_host_root(CLI::App& app, RawOptions& raw) {
    app.add_option("--host-root", raw.host_root,
                   "In a container: where the node's / is (default: /host if the node's CNI folder is there)")
        ->type_name("DIR");
}

void add_kube_option(CLI::App& app, RawOptions& raw) {
    app.add_option("--kubeconfig", raw.kubeconfig,
                   "Names of Services and pods from the Kubernetes API as well: with such a file, or with the account "
                   "of the pod hptrace runs in")
        ->type_name("FILE|in-cluster");
}

void add_trace_options(CLI::App& app, RawOptions& raw) {
    add_filter_options(app, raw);
    app.add_option("--netns", raw.netns,
                   "Network namespace of the node: a path or a process id (default: this one); all: every one")
        ->type_name("PATH|PID|all");
    add_host_root(app, raw);
    app.add_option("--source", raw.source, "Client address")->type_name("CIDR");
    app.add_option("--only", raw.only, "Show only these verdicts (a list is fine)")
        ->type_name("VERDICT")
        ->allow_extra_args(false);
    auto* journald = app.add_flag("--journald", raw.journald,
                                  "Report to systemd's journal what is wrong, instead of everything to stdout "
                                  "(with --json: as well)");
    app.add_option("--repeat", raw.repeat, "With --journald: how often to tell of a conflict again (60)")
        ->type_name("SECONDS")
        ->needs(journald);
    app.add_option("--metrics", raw.metrics, "Serve metrics for Prometheus there")->type_name("ADDR:PORT");
    app.add_option("--ignore", raw.ignore,
                   "Accepted conflicts, a line each: conflict=ID, or any of port= pod= service= destination=")
        ->type_name("FILE");
    add_kube_option(app, raw);
    app.add_flag("--existing", raw.existing, "Judge the connections that exist already, then stop");
    app.add_option("--duration", raw.duration, "Stop after this time")->type_name("SECONDS");
    app.add_option("--count", raw.count, "Stop after this many connections were shown")->type_name("N");
    app.add_option("--probe", raw.probe, "How to attach: auto, fexit or kprobe")->type_name("MODE");
}

void add_audit_options(CLI::App& app, RawOptions& raw) {
    add_filter_options(app, raw);
    app.add_option("--netns", raw.netns, "Network namespace of the node: a path or a process id (default: this one)")
        ->type_name("PATH|PID");
    app.add_option("--from", raw.from, "Read a dump of a node instead of this one; needs no root")
        ->type_name("DIR")
        ->excludes(app.get_option("--netns"));
    add_host_root(app, raw);
    add_kube_option(app, raw);
    app.add_flag("--strict", raw.strict,
                 "Exit status 3 also for conflicts that depend on hook order, and leaked rules");
}

}  // namespace

void add_options(CLI::App& app, std::string_view command, RawOptions& raw) {
    app.description(command == "trace" ? std::string(description) + commands : description);
    app.set_help_flag();
    app.add_flag("-h,--help", raw.help, "This text");
    app.add_flag("-V,--version", raw.version, "Display program version information and exit");
    app.allow_extras();
    app.get_formatter()->column_width(24);
    if (command == "trace") {
        app.footer(footer);
        add_trace_options(app, raw);
    } else if (command == "audit") {
        add_audit_options(app, raw);
    } else {
        app.add_flag("--json", raw.json, "One JSON object per line");
    }
}

}  // namespace hptrace
