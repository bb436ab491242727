#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""hptrace on a machine that was just booted: it changes nothing, misses what is absent, refuses clearly, leaves nothing.

The steps build on each other, from nothing loaded to everything in use, so they run in this order and once per boot.
A kernel without modules (scripts/kernels: built-in-6.12) has everything from the start: the steps with something absent are
left out there, and it must be found that it is built in.
"""

import argparse
import json
import os
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lib import hptrace  # noqa: E402
from lib.cluster import MYSQL_A, NODE, Cluster  # noqa: E402
from lib.footprint import changes_since, footprint, modules, read  # noqa: E402
from lib.incident import MYSQL, OTHER, ROWS, Incident  # noqa: E402
from lib.kernel import has_modules, probe_modes  # noqa: E402
from lib.kubeproxy import KubeProxy  # noqa: E402
from lib.netns import Namespace, private_mounts  # noqa: E402
from lib.portmap import Pod, Portmap  # noqa: E402
from lib.report import Report  # noqa: E402
from lib.servers import ask_once  # noqa: E402

COMMANDS = (("doctor",), ("audit",), ("audit", "--json"), ("--existing",), ("--existing", "--json"),
            ("--duration", "1"), ("--duration", "1", "--json"), ("--probe", "kprobe", "--duration", "1"),
            ("--journald", "--duration", "1"), ("--metrics", "127.0.0.1:0", "--duration", "1"),
            ("--version",), ("--help",))
WATCHED_MODULES = ("nf_nat", "nf_conntrack", "ip_vs", "nf_tables", "ip_tables", "ip6_tables", "ip_set", "x_tables",
                   "nf_conntrack_netlink", "nfnetlink")


LOCKDOWN_FUNCTIONS = ("nf_nat_setup_info", "ip_vs_schedule", "xt_replace_table", "nf_tables_commit", "ip_vs_genl_set_cmd")


class Fresh:
    def __init__(self, options, report):
        self.binary = options.hptrace
        self.report = report
        self.here = Namespace.adopt("here")

    # --- nothing changes ----------------------------------------------------------------------------------------

    def changes_nothing(self, when, node):
        before = footprint(node)
        for command in COMMANDS:
            program = hptrace.run(node, self.binary, *command)
            problems = changes_since(before, node)
            if program.status not in (0, 1, 3, 4):
                problems.append(f"exit status {program.status}")
            self.verdict(f"unchanged, {when}", " ".join(command), program, problems)

    # --- bad input ----------------------------------------------------------------------------------------------

    def refuses(self):
        no_capabilities = ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all")
        nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
        cases = ((("--port", "70000"), 2, "port"), (("--port", "0"), 2, "port"), (("--port", "mysql"), 2, "port"),
                 (("--port", "200-100"), 2, "port"), (("--dest", "10.0.0.0/33"), 2, "dest"),
                 (("--source", "nonsense"), 2, "source"), (("--proto", "icmp"), 2, "proto"),
                 (("--probe", "magic"), 2, "probe"), (("--metrics", "9755"), 2, "metrics"),
                 (("--metrics", "192.0.2.1:9755"), 1, "192.0.2.1:9755"), (("--ignore", "/nonexistent"), 2, "/nonexistent"),
                 (("--count", "-1"), 2, "count"), (("--no-such-option",), 2, ""), (("-4", "-6"), 2, ""),
                 (("--netns", "/nonexistent"), 1, "/nonexistent"),
                 (("--netns", "/etc/passwd"), 1, "/etc/passwd"), (("--netns", "999999"), 1, "999999"))
        for arguments, status, word in cases:
            self.refused(" ".join(arguments), (self.binary, *arguments), status, word)
        self.refused("as nobody", (*nobody, self.binary, "--port", "3306"), 1, "root")
        self.refused("as root without capabilities", (*no_capabilities, self.binary, "--port", "3306"), 1, "")

    def refused(self, title, command, status, word):
        program = hptrace.run(self.here, *command)
        problems = []
        if program.status != status:
            problems.append(f"exit status {program.status}, not {status}")
        if not program.stderr:
            problems.append("nothing on stderr")
        elif word.lower() not in "\n".join(program.stderr).lower():
            problems.append(f"stderr does not speak of {word}")
        if len(program.stderr) > 3:
            problems.append("more than one clear line")
        self.verdict("refused", title, program, problems)

    def stdout_unusable(self, node):
        """stdout closed, full, or a pipe nobody reads."""
        for title, redirection in (("stdout closed", ">&-"), ("stdout full", ">/dev/full")):
            program = hptrace.run(node, "sh", "-c", f'exec "$0" --port 3306 --existing --json {redirection}',
                                  self.binary)
            problems = [] if program.status == 1 and program.stderr else [f"exit status {program.status}"]
            self.verdict("refused", title, program, problems)

    # --- what is absent is said, what is present is traced -------------------------------------------------------

    def absent(self):
        program = hptrace.run(self.here, self.binary, "--port", "3306", "--duration", "1")
        text = "\n".join(program.stderr)
        problems = [f"stderr does not name {name}" for name in ("nf_nat", "ip_vs") if name not in text]
        self.verdict("absent", "nf_nat and ip_vs", program, problems)

        # ip_vs alone.
        cluster = Cluster()
        KubeProxy(cluster.node, "", (MYSQL, OTHER)).start_ipvs_only()
        self.traces_without("nf_nat", cluster, MYSQL.address[4], 3306, "mysql-a", ("ok", "ip_vs", MYSQL_A[4]))
        cluster.close()
        self.unload("ip_vs_rr", "ip_vs")

        # nf_nat alone: a plain HostPort.
        cluster = Cluster()
        pod = Pod(cluster.mysql_b, "mysql-b-0", {4: "10.224.0.222", 6: "fd00:10:224::de"})
        portmap = Portmap(cluster.node, "nft", pod, [(3306, 3306, "tcp")])
        portmap.add()
        self.traces_without("ip_vs", cluster, NODE[4], 3306, "mysql-b", ("hostport", "nf_nat", "10.224.0.222"))
        portmap.delete()
        cluster.close()

    @staticmethod
    def unload(*names):
        """The kernel takes a network namespace down some time after its last user; until then modules are in use."""
        command = ["modprobe", "-r", *names]
        hptrace.wait_until(lambda: subprocess.run(command, check=False, capture_output=True).returncode == 0)
        left = [name for name in names if name in modules()]
        if left:
            raise RuntimeError(f"{' and '.join(left)} cannot be unloaded: in use")

    def traces_without(self, module, cluster, address, port, answer, wanted):
        problems = [f"{module} is loaded"] if module in modules() else []
        program = hptrace.Hptrace(cluster.node, self.binary, "--port", str(port), "--json")
        if program.wait_tracing():
            answered, local = ask_once(cluster.client, "tcp", address, port)
            program.status = program.stop()
            seen = [(record.get("verdict"), record.get("mechanism"), record.get("rewritten", {}).get("ip"))
                    for record in program.records("connection") if record["client"]["port"] == local[1]]
            if answered != answer:
                problems.append(f"answered by {answered}")
            if seen != [wanted]:
                problems.append(f"records {seen}, not {wanted}")
        else:
            program.status = program.stop()
            problems.append("did not trace")
        if not any(module in line for line in program.stderr):
            problems.append(f"stderr does not say that {module} is absent")
        if module in modules():
            problems.append(f"{module} was loaded")
        self.verdict("absent", module, program, problems)

    # --- built in -------------------------------------------------------------------------------------------------

    def is_built_in(self):
        """modprobe succeeds without modules only for what is built in."""
        problems = [f"{name} is not built in" for name in WATCHED_MODULES
                    if subprocess.run(["modprobe", name], check=False, capture_output=True).returncode]
        problems += [f"{name} has a folder in /sys/module: this kernel proves nothing" for name in ("nf_nat", "nf_tables")
                     if os.path.exists(f"/sys/module/{name}")]
        self.report.check(["built in", "all that is traced and read", ""], problems)
        self.report.note("this kernel has no modules: left out is what needs one to be absent")

    def without_lists(self, cluster):
        """Many nodes have no modules.builtin of their kernel, nor has a container: /proc/kallsyms tells."""
        hide = 'mount -t tmpfs none /lib/modules && exec "$0" "$@"'
        hidden = ("unshare", "-m", "sh", "-c", hide, self.binary)
        program = hptrace.run(cluster.node, *hidden, "audit", "--json")
        problems = [f"unread: {record}" for record in program.records("unread")]
        if not any(record["winner"] == "hostport" for record in program.records("conflict")):
            problems.append("no conflict")
        if program.status != 3:
            problems.append("exit status")
        self.verdict("built in, not listed", "audit", program, problems)

        program = hptrace.Hptrace(cluster.node, *hidden, "--port", "3306", "--json")
        problems = [] if program.wait_tracing() else ["did not trace"]
        clients = [ask_once(cluster.client, "tcp", address, port)[1]
                   for address, port in ((MYSQL.address[4], 3306), (NODE[4], 3306))]
        program.status = program.stop()
        seen = {record["client"]["port"]: record["verdict"] for record in program.records("connection")}
        if [seen.get(port) for _, port in clients] != ["hijacked", "hostport"]:
            problems.append(f"verdicts: {seen}")
        problems += [f"lost: {record}" for record in program.records("lost")]
        if program.status != 3:
            problems.append("exit status")
        self.verdict("built in, not listed", "trace", program, problems)

    # --- nothing stays attached ---------------------------------------------------------------------------------

    def leaves_nothing(self, node):
        subprocess.run(["modprobe", "-a", "nf_nat", "ip_vs"], check=True)
        for probe in probe_modes():
            for signal_name, number in (("SIGKILL", 9), ("SIGTERM", 15)):
                before = self.attached()
                program = hptrace.Hptrace(node, self.binary, "--port", "3306", "--probe", probe)
                problems = [] if program.wait_tracing() else ["did not trace"]
                if not problems and self.attached() == before:
                    problems.append("attached nothing that bpftool shows: this check proves nothing")
                program.status = program.stop(number)
                # The kernel frees programs and links later (RCU).
                if not hptrace.wait_until(lambda: self.attached() == before):
                    problems += [f"left behind: {name} {ids}" for name, ids in self.attached().items() if ids != before[name]]
                self.verdict("leaves nothing", f"{probe} {signal_name}", program, problems)

    @staticmethod
    def attached():
        """Ids of everything BPF, and the kprobes."""
        ids = {}
        for kind in ("prog", "link", "map"):
            listed = subprocess.run(["bpftool", "-j", kind, "list"], stdout=subprocess.PIPE, check=True).stdout
            # bpftool's own programs, loaded to find the users of the others, may still be going away.
            ids[kind] = sorted(item["id"] for item in json.loads(listed or "[]")
                               if item.get("name") not in ("iter", "libbpf_nametest", "libbpf_det_bind"))
        for file in ("/sys/kernel/debug/kprobes/list", "/sys/kernel/tracing/kprobe_events"):
            ids[file] = read(file)
        return ids

    # --- a kernel that does not let us --------------------------------------------------------------------------

    def no_btf(self):
        script = 'mount -t tmpfs none /sys/kernel/btf && exec "$0" --port 3306 --duration 1'
        program = hptrace.run(self.here, "unshare", "-m", "sh", "-c", script, self.binary)
        problems = [] if program.status == 1 else [f"exit status {program.status}, not 1"]
        if "btf" not in "\n".join(program.stderr).lower():
            problems.append("stderr does not speak of BTF")
        self.verdict("refused", "no BTF", program, problems)

    def no_uevents(self, cluster):
        """What is loaded is traced all the same, and it says that modules which come later are not."""
        deny = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib", "deny_uevents.py")
        program = hptrace.Hptrace(cluster.node, sys.executable, deny, self.binary, "--port", "3306", "--json")
        problems = [] if program.wait_tracing() else ["did not trace"]
        _, local = ask_once(cluster.client, "tcp", MYSQL.address[4], 3306)
        program.status = program.stop()
        seen = [record["verdict"] for record in program.records("connection") if record["client"]["port"] == local[1]]
        if seen != ["hijacked"]:
            problems.append(f"verdicts: {seen}")
        if not any("modules that are loaded from now on are not traced" in line for line in program.stderr):
            problems.append("it does not say what is not traced")
        if program.status != 3:
            problems.append("exit status")
        self.verdict("no news of modules", "seccomp", program, problems)

    def changes_not_probed(self, incident):
        """A kernel without the function that tells of changes of nf_tables, as far as hptrace can see: it looks every second,
        and judges by what it reads after a connection."""
        hidden = "/run/kallsyms"
        with open("/proc/kallsyms", encoding="ascii") as symbols, open(hidden, "w", encoding="ascii") as others:
            others.writelines(line for line in symbols if "nf_tables_commit" not in line)
        script = f'mount --bind {hidden} /proc/kallsyms && exec "$0" "$@"'
        command = ("unshare", "-m", "sh", "-c", script, self.binary)
        program = hptrace.run(incident.cluster.node, *command, "doctor", "--json")
        polled = [probe["function"] for probe in program.records("doctor")[0]["probes"] if probe.get("polled")]
        problems = [] if program.status == 0 else ["exit status"]
        problems += [] if polled == ["nf_tables_commit"] else [f"polled: {polled}"]
        self.verdict("changes not probed", "doctor", program, problems)

        program = hptrace.Hptrace(incident.cluster.node, *command, "--port", "3306", "--json")
        problems = [] if program.wait_tracing() else ["did not trace"]
        if not any("nf_tables" in line and "every second" in line for line in program.stderr):
            problems.append("it does not say so")
        clients = [ask_once(incident.cluster.client, "tcp", MYSQL.address[4], 3306)[1]]
        before = len(program.records("conflict"))
        incident.delete_pods()
        if not hptrace.wait_until(lambda: len(program.records("conflict_ended")) == before):
            problems.append("that the conflicts ended was not noticed")
        clients.append(ask_once(incident.cluster.client, "tcp", MYSQL.address[4], 3306)[1])
        incident.add_pods()
        if not hptrace.wait_until(lambda: len(program.records("conflict")) == 2 * before):
            problems.append("new conflicts were not noticed")
        clients.append(ask_once(incident.cluster.client, "tcp", MYSQL.address[4], 3306)[1])
        program.status = program.stop()
        seen = {record["client"]["port"]: record["verdict"] for record in program.records("connection")
                if not record["existing"]}
        if [seen.get(port) for _, port in clients] != ["hijacked", "ok", "hijacked"]:
            problems.append(f"{clients}: {seen}, not hijacked, ok, hijacked")
        if not before:
            problems.append("no conflict at the start")
        self.verdict("changes not probed", "trace", program, problems)

    def lockdown(self, incident):
        """Kernel lockdown refuses kprobes and reading kernel memory. fexit probes work all the same where the kernel has
        them, and notice that rules change. Last: it cannot be undone before the next boot."""
        subprocess.run(["mount", "-t", "securityfs", "none", "/sys/kernel/security"], check=False,
                       stderr=subprocess.DEVNULL)
        with open("/sys/kernel/security/lockdown", "w", encoding="ascii") as file:
            file.write("confidentiality")
        can_trace = "fexit" in probe_modes()
        program = hptrace.run(incident.cluster.node, self.binary, "doctor", "--json")
        said = program.records("doctor")[0]
        modes = {probe["function"]: probe["mode"] for probe in said["probes"]}
        problems = [] if program.status == (0 if can_trace else 1) else ["exit status"]
        if said["can_trace"] != can_trace or not can_trace and "lockdown" not in said.get("problem", ""):
            problems.append(f"can_trace {said['can_trace']}: {said.get('problem')}")
        problems += [f"{function}: {modes[function]}" for function in LOCKDOWN_FUNCTIONS
                     if modes[function] != ("fexit" if can_trace else "none")]
        self.verdict("kernel lockdown", "doctor", program, problems)

        program = hptrace.Hptrace(incident.cluster.node, self.binary, "--port", "3306", "--json")
        problems = []
        if program.wait_tracing() != can_trace:
            problems.append("it traces" if not can_trace else "it does not trace")
        elif can_trace:
            clients = [ask_once(incident.cluster.client, "tcp", MYSQL.address[4], 3306)[1]]
            incident.delete_pods()
            clients.append(ask_once(incident.cluster.client, "tcp", MYSQL.address[4], 3306)[1])
            program.status = program.stop()
            seen = {record["client"]["port"]: record["verdict"] for record in program.records("connection")
                    if not record["existing"]}
            if [seen.get(port) for _, port in clients] != ["hijacked", "ok"]:
                problems.append(f"{clients}: {seen}, not hijacked and then ok")
        if not can_trace:
            program.status = program.stop()
            if program.status != 1 or "lockdown" not in "\n".join(program.stderr):
                problems.append("it does not speak of lockdown")
        self.verdict("kernel lockdown", "", program, problems)
        self.refused("--probe kprobe under lockdown", (self.binary, "--port", "3306", "--probe", "kprobe"), 1, "lockdown")

    def verdict(self, what, case, program, problems):
        if any("terminate called" in line or "Sanitizer" in line for line in program.stderr):
            problems = [*problems, "crashed"]
        self.report.check([what, case, program.status], problems)
        if problems:
            self.report.transcript(program.transcript())

    def run(self):
        if has_modules():
            loaded = [name for name in WATCHED_MODULES if name in modules()]
            self.report.check(["fresh", "nothing is loaded yet", ""], [f"{name} is loaded" for name in loaded])
            self.changes_nothing("nothing loaded", self.here)
        else:
            self.is_built_in()
            self.changes_nothing("nothing in use", self.here)
        self.refuses()
        if has_modules():
            self.absent()
        incident = Incident(next(row for row in ROWS if row.name == "other-backend"), "legacy")
        for family in (4, 6):
            ask_once(incident.cluster.client, "tcp", MYSQL.address[family], 3306)
        self.changes_nothing("all in use", incident.cluster.node)
        if not has_modules():
            self.without_lists(incident.cluster)
        self.stdout_unusable(incident.cluster.node)
        self.leaves_nothing(incident.cluster.node)
        self.no_btf()
        self.no_uevents(incident.cluster)
        self.changes_not_probed(incident)
        self.lockdown(incident)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hptrace", required=True, help="the binary under test")
    options = parser.parse_args()
    private_mounts("/run/netns", "/var/lib/cni")
    for filesystem, target in (("debugfs", "/sys/kernel/debug"), ("tracefs", "/sys/kernel/tracing")):
        subprocess.run(["mount", "-t", filesystem, "none", target], check=False, stderr=subprocess.DEVNULL)
    report = Report(f"fresh machine, {os.uname().release}", (("CHECK", 25), ("CASE", 32), ("EXIT", 4)))
    Fresh(options, report).run()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
