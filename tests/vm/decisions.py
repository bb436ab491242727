#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""One record per decision, in every probe mode: what makes the kernel decide twice for one connection, what makes it decide
without a packet or a rule, and every kind of rule that rewrites.

Every connection's records are counted by its key, those that no case asked for count as wrong."""

import argparse
import mmap
import os
import re
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lib import hptrace  # noqa: E402
from lib.cluster import CLIENT, MYSQL_A, MYSQL_B, MYSQL_C, NODE, NODE_CNI0, REDIS, Cluster  # noqa: E402
from lib.ftp import FtpClient, FtpServer  # noqa: E402
from lib.kernel import probe_modes  # noqa: E402
from lib.kubeproxy import KubeProxy, Service, host_port  # noqa: E402
from lib.netns import private_mounts  # noqa: E402
from lib.portmap import Pod, Portmap  # noqa: E402
from lib.report import Report  # noqa: E402
from lib.servers import KINDS, ask_once  # noqa: E402

PROTOCOLS = ("tcp", "udp")
MYSQL = Service("mysql-a", {4: "10.96.0.10", 6: "fd00:10:96::a"}, 3306, {4: (MYSQL_A[4], 3306), 6: (MYSQL_A[6], 3306)})
OTHER = Service("redis", {4: "10.96.0.20", 6: "fd00:10:96::14"}, 6379, {4: (REDIS[4], 6379), 6: (REDIS[6], 6379)})
HOST_PORT, SVCLB_PORT, FTP_PORT, ON_NODE = 13306, 8306, 2121, 4000
INSERTED = 5555  # by `conntrack -I`
# Whose rules: the first of its ports. NETMAP: the network that it maps to that of the mysql-a pod.
PORTS = {"iptables-legacy": 4100, "iptables-nft": 4200, "nft": 4300}
NETMAP = {"iptables-legacy": {4: "192.168.77.0/24", 6: "fd00:77::/64"},
          "iptables-nft": {4: "192.168.78.0/24", 6: "fd00:78::/64"}}
MAPPED = {4: "10.224.1.0/24", 6: "fd00:10:224:1::/64"}
RANGE = ("10.224.1.200", "10.224.1.215")  # addresses of node-1's pods that nobody has
FLOWS = 200  # of each family, for packets that meet
TIMEOUT = 20  # seconds; an emulated machine under load is slow
AT_CONFIRM = "kprobe at confirm"  # the mode that sees no connection whose packets are all dropped


@dataclass
class Expected:
    """A connection, and the records of it that there must be. client: port 0 is any."""

    case: str
    protocol: str
    client: tuple
    original: tuple
    rewritten: tuple
    count: int = 1  # None: one at most
    verdict: str = "other"
    mechanism: str = "nf_nat"
    committed: bool = True  # None: depends on when the packets came
    netns: str = "node"
    retried: bool = False  # its first packets were dropped, one after them was not

    def key(self):
        return (self.protocol, *self.client, *self.original)

    def problems(self, records, mode):
        if self.retried:
            return self.problems_of_retried(records)
        count = min(len(records), 1) if self.count is None else self.count
        if self.committed is False and mode == AT_CONFIRM:
            count = 0
        if len(records) != count:
            return [f"{self.key()}: {len(records)} records, not {count}"] + [str(record) for record in records]
        problems = []
        for record in records:
            problems += self.wrong(record)
            if self.committed is not None and record.get("committed") is not self.committed:
                problems.append(f"{self.key()}: committed {record.get('committed')}, not {self.committed}")
        return problems

    def wrong(self, record):
        said = (record["verdict"], record["mechanism"], (record["rewritten"]["ip"], record["rewritten"]["port"]))
        wanted = (self.verdict, self.mechanism, self.rewritten)
        return [] if said == wanted else [f"{self.key()}: {said}, not {wanted}"]

    def problems_of_retried(self, records):
        """One that was dropped is shown unless the next one came at once, or nothing tells; what got through is shown."""
        problems = [problem for record in records for problem in self.wrong(record)]
        committed = [record.get("committed") for record in records]
        return problems + ([] if committed in ([True], [False, True]) else [f"{self.key()}: committed {committed}"])


class Connection:
    """A socket of a namespace with a port that no other connection of the test has; port: one to be used again."""

    next_port = 20000  # below those that the kernel gives out

    def __init__(self, namespace, protocol, address, remote_port, port=0):
        if not port:
            port = Connection.next_port
            Connection.next_port += 1
        self.protocol = protocol
        self.family = 6 if ":" in address else 4
        self.remote = (address, remote_port)
        with namespace:
            self._socket = socket.socket(socket.AF_INET6 if self.family == 6 else socket.AF_INET, *KINDS[protocol])
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if protocol == "tcp":  # a reset at the end: the port is free at once
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.bind(("", port))
        self.port = port
        self._socket.setblocking(False)

    def connect(self):
        """Does not wait for an answer."""
        self._socket.connect_ex(self.remote)
        self.local = self._socket.getsockname()[:2]
        return self

    def send(self):
        self._socket.send(b"who are you\n")

    def receive(self, timeout=TIMEOUT):
        self._socket.settimeout(timeout)
        try:
            return self._socket.recv(512).decode().strip()
        except OSError as error:
            return f"({error})"

    def ask(self):
        self._socket.settimeout(TIMEOUT)
        try:
            self.send()
        except OSError as error:
            return f"({error})"
        return self.receive()

    def close(self):
        self._socket.close()

    def expected(self, case, rewritten, **more):
        return Expected(case, self.protocol, self.local, self.remote, rewritten, **more)


class NewEntries:
    """The entries that a namespace's conntrack gets from now on, by the kernel's own events."""

    NETLINK_NETFILTER, GROUP_CONNTRACK_NEW = 12, 1 << 0
    CTA_PROTO_SRC_PORT = 2

    def __init__(self, namespace):
        with namespace:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, self.NETLINK_NETFILTER)
        self._socket.bind((0, self.GROUP_CONNTRACK_NEW))

    def of(self, port):
        """How many there were from a client's port since this was asked last. An event is there before the packet goes on."""
        attribute = struct.pack("=HH", 6, self.CTA_PROTO_SRC_PORT) + struct.pack("!H", port)
        count = 0
        while True:
            try:
                count += attribute in self._socket.recv(1 << 16)
            except BlockingIOError:
                return count


class Drop:
    """Drops, and counts, the packets of some connections to a hostPort after their destination was rewritten."""

    def __init__(self, node, connections):
        self._node = node
        rules = [f"{'ip' if c.family == 4 else 'ip6'} daddr {MYSQL_B[c.family]} {c.protocol} sport {c.port} counter drop"
                 for c in connections]
        node.run("nft", "-f", "-", stdin="table inet dropping { chain forward {\ntype filter hook forward priority 0;\n"
                                         + "\n".join(rules) + "\n}\n}\n")

    def until(self, number, nudge):
        """So many of each. nudge: what makes for more of those that do not come by themselves."""
        deadline = time.monotonic() + 60
        while min(counts := self._counts()) < number:
            if time.monotonic() > deadline:
                raise RuntimeError(f"dropped {counts}, waited for {number} of each")
            nudge()
            time.sleep(0.1)

    def remove(self):
        self._node.run("nft", "delete", "table", "inet", "dropping")

    def _counts(self):
        return [int(number) for number in
                re.findall(r"counter packets (\d+)", self._node.run("nft", "list", "table", "inet", "dropping"))]


def send_at_once(connections):
    """Two packets of each, from two processors at the same time. Returns the answers to one of them."""
    processors = sorted(os.sched_getaffinity(0))
    turns = memoryview(mmap.mmap(-1, 8)).cast("I")  # how far each of the two is

    def send_all(processor, mine, others, after):
        os.sched_setaffinity(0, {processor})
        results = []
        for turn, connection in enumerate(connections, 1):
            turns[mine] = turn
            while turns[others] < turn:
                pass
            connection.send()
            results.append(after(connection))
        return results

    child = os.fork()
    if child == 0:
        send_all(processors[-1], 0, 1, lambda connection: None)
        os._exit(0)
    answers = send_all(processors[0], 1, 0, lambda connection: connection.receive(2))
    os.waitpid(child, 0)
    os.sched_setaffinity(0, processors)
    return answers


class DecisionsTest:
    def __init__(self, binary, report):
        self.binary, self.report = binary, report
        self.probes = probe_modes()
        self.expected = []
        # br_netfilter: nodes have it, for their bridges.
        subprocess.run(["modprobe", "-a", "br_netfilter", "nf_nat_ftp", "nft_redir"], check=True)
        self.cluster = Cluster()
        self.node, self.client, self.outside = self.cluster.node, self.cluster.client, self.cluster.outside
        self.cluster.servers.add(self.node, "node", ON_NODE)
        KubeProxy(self.node, "nft", (MYSQL, OTHER)).start_kube_proxy()
        Portmap(self.node, "legacy", Pod(self.cluster.mysql_b, "mysql-b-0", MYSQL_B),
                [(HOST_PORT, 3306, protocol) for protocol in PROTOCOLS]).add()
        self.node.ip(f"link set veth-{self.cluster.mysql_b.name} type bridge_slave hairpin on\n")
        self.make_rules()
        self.make_svclb()
        self.ftp = FtpServer(self.cluster.mysql_a, "mysql-a", 21)
        report.note("cluster built")

    def make_rules(self):
        for family, command in ((4, "iptables"), (6, "ip6tables")):
            target = host_port(MYSQL_A[family], 3306)
            for backend, port in list(PORTS.items())[:2]:
                self.node.run(f"{command}-{backend.removeprefix('iptables-')}-restore", "--noflush", stdin="*nat\n" + "".join(
                    f"-A PREROUTING -p {protocol} --dport {port} -j DNAT --to-destination {target}\n"
                    f"-A PREROUTING -p {protocol} --dport {port + 1} -j REDIRECT --to-ports {ON_NODE}\n"
                    for protocol in PROTOCOLS) +
                    f"-A PREROUTING -d {NETMAP[backend][family]} -j NETMAP --to {MAPPED[family]}\n"
                    f"-A PREROUTING -p tcp -d {MYSQL_A[family]} --dport 3306 -j DNAT --to-destination {target}\nCOMMIT\n")
            address = MYSQL_A[family] if family == 4 else f"[{MYSQL_A[6]}]"
            port = PORTS["nft"]
            self.node.run("nft", "-f", "-", stdin=f"table {'ip' if family == 4 else 'ip6'} more {{ chain prerouting {{\n"
                          "type nat hook prerouting priority dstnat\n" + "".join(
                              f"{protocol} dport {port} dnat to {address}:3306\n"
                              f"{protocol} dport {port + 1} redirect to :{ON_NODE}\n"
                              f"{protocol} dport {port + 2} dnat to {protocol} dport map {{ {port + 2} : {MYSQL_A[family]} }}\n"
                              for protocol in PROTOCOLS) + "}\n}\n")
            self.node.run(f"{command}-legacy-restore", "--noflush", stdin=
                          f"*raw\n-A PREROUTING -p tcp --dport {FTP_PORT} -j CT --helper ftp\nCOMMIT\n"
                          f"*nat\n-A PREROUTING -p tcp --dport {FTP_PORT} -j DNAT --to-destination {host_port(MYSQL_A[family], 21)}\n"
                          "COMMIT\n")
        self.node.run("iptables-legacy", "-t", "nat", "-A", "PREROUTING", "-p", "udp", "-d", RANGE[0], "-j", "DNAT",
                      "--to-destination", "-".join(RANGE))
        self.cluster.servers.add(self.cluster.mysql_a, "mysql-a", PORTS["nft"] + 2)

    def make_svclb(self):
        """k3s' ServiceLB: the pod of a hostPort, which sends everything on to the Service (klipper-lb's entry script)."""
        pod = self.cluster.mysql_c
        Portmap(self.node, "legacy", Pod(pod, "svclb-mysql-a-5d4c1a2b-x7k2p", MYSQL_C),
                [(SVCLB_PORT, 3306, protocol) for protocol in PROTOCOLS]).add()
        for key in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
            pod.sysctl(key, 1)
        for family, command in ((4, "iptables"), (6, "ip6tables")):
            service = MYSQL.address[family]
            pod.run(f"{command}-legacy-restore", "--noflush", stdin="*nat\n" + "".join(
                f"-I PREROUTING -p {protocol} --dport 3306 -j DNAT --to-destination {host_port(service, 3306)}\n"
                f"-I POSTROUTING -d {service} -p {protocol} -j MASQUERADE\n" for protocol in PROTOCOLS) + "COMMIT\n")

    # --- the cases ----------------------------------------------------------------------------------------------------

    def expect(self, *expected):
        self.expected += expected

    def answered(self, case, answer, wanted):
        if answer != wanted:
            self.report.check([case], [f"answered by {answer}, not {wanted}"])

    def ask(self, case, namespace, protocol, address, port, answer, rewritten, **more):
        by, local = ask_once(namespace, protocol, address, port)
        self.answered(case, by, answer)
        self.expect(Expected(case, protocol, local, (address, port), rewritten, **more))

    def rules(self):
        for family in (4, 6):
            for protocol in PROTOCOLS:
                for backend, port in PORTS.items():
                    where = (self.client, protocol, NODE[family])
                    self.ask(f"{backend}, DNAT", *where, port, "mysql-a", (MYSQL_A[family], 3306))
                    self.ask(f"{backend}, REDIRECT", *where, port + 1, "node", (NODE_CNI0[family], ON_NODE))
                self.ask("nft, map", *where, PORTS["nft"] + 2, "mysql-a", (MYSQL_A[family], PORTS["nft"] + 2))
                for backend, networks in NETMAP.items():
                    address = networks[family].split("0/24")[0] + "224" if family == 4 else networks[6].split("/")[0] + "e0"
                    self.ask(f"{backend}, NETMAP", self.client, protocol, address, 3306, "mysql-a", (MYSQL_A[family], 3306))
            self.ask("a rule that changes nothing", self.client, "tcp", MYSQL_A[family], 3306, "mysql-a", (), count=0)

    def range_of_addresses(self):
        """It begins with the original destination, as a null binding does."""
        connection = Connection(self.cluster.mysql_b, "udp", RANGE[0], 3306).connect()
        connection.send()
        entry = hptrace.wait_until(lambda: self.node.run("conntrack", "-L", "-p", "udp", "-s", connection.local[0],
                                                         "--sport", str(connection.port)))
        target = re.findall(r"src=(\S+)", entry)[1]
        self.answered("a range of addresses", str(target != RANGE[0]), "True")  # else it proves nothing
        self.expect(connection.expected("a range of addresses", (target, 3306)))

    def hostports(self):
        for family in (4, 6):
            for protocol in PROTOCOLS:
                to = (NODE[family], HOST_PORT, "mysql-b", (MYSQL_B[family], 3306))
                for case, namespace in (("hostPort", self.client), ("hairpin", self.cluster.mysql_b),
                                        ("from the node itself", self.node)):
                    self.ask(case, namespace, protocol, *to, verdict="hostport")

    def retransmit_after_a_drop(self):
        kinds = [(protocol, NODE[family], HOST_PORT) for family in (4, 6) for protocol in PROTOCOLS]
        dropped, delayed = ([Connection(self.outside, *kind) for kind in kinds] for _ in range(2))
        everyone = dropped + delayed
        drop = Drop(self.node, everyone)
        for connection in everyone:
            connection.connect()
        drop.until(2, lambda: [connection.send() for connection in everyone if connection.protocol == "udp"])
        for connection in dropped:
            connection.close()
            self.expect(connection.expected("always dropped", (MYSQL_B[connection.family], 3306), verdict="hostport",
                                            committed=False))
        drop.remove()
        for connection in delayed:
            self.answered("retransmit after a drop", connection.ask(), "mysql-b")
            self.expect(connection.expected("retransmit after a drop", (MYSQL_B[connection.family], 3306),
                                            verdict="hostport", retried=True))

    def port_used_again(self):
        for family in (4, 6):
            for case, protocol, forget, times in (("port used again, conntrack -D", "tcp", True, 2),
                                                  ("port used again, conntrack -D", "udp", True, 2),
                                                  ("port used again after a reset", "tcp", False, 10)):
                port, entries = 0, NewEntries(self.node)
                for _ in range(times):
                    connection = Connection(self.client, protocol, NODE[family], HOST_PORT, port).connect()
                    self.answered(case, connection.ask(), "mysql-b")
                    connection.close()
                    port = connection.port
                    if forget:
                        self.forget(connection.local, protocol)
                # nf_conntrack_tcp_packet() makes a new entry where the reset was the last packet that it saw; else, seldom, the
                # connection goes on in the old one.
                decided = entries.of(port)
                self.answered(f"{case}, most", str(times / 2 < decided <= times), "True")
                self.expect(connection.expected(case, (MYSQL_B[family], 3306), verdict="hostport", count=decided))

    def forget(self, local, protocol):
        """Fails if conntrack does not know it."""
        self.node.run("conntrack", "-D", "-f", f"ipv{6 if ':' in local[0] else 4}", "-p", protocol, "-s", local[0],
                      "--sport", str(local[1]))

    def packets_that_meet(self):
        before, unanswered = self.clashes(), 0
        for family in (4, 6):
            connections = [Connection(self.client, "udp", NODE[family], HOST_PORT).connect() for _ in range(FLOWS)]
            for answer, connection in zip(send_at_once(connections), connections):
                connection.close()
                # The kernel may drop both packets, even before it decides.
                answered = answer == "mysql-b"
                unanswered += not answered
                self.expect(connection.expected("packets that meet", (MYSQL_B[family], 3306), verdict="hostport",
                                                **({} if answered else {"count": None, "committed": None})))
        self.answered("packets that meet, most", str(unanswered < FLOWS / 10), "True")
        clashes = {name: number - before[name] for name, number in self.clashes().items()}
        self.answered("packets that meet, some", str(any(clashes.values())), "True")  # else it proves nothing
        self.report.note(f"{2 * FLOWS} flows of two packets that meet, {unanswered} without answer: conntrack counts {clashes}")

    def clashes(self):
        counts = self.node.run("conntrack", "-S")
        return {name: sum(map(int, re.findall(rf"\b{name}=(\d+)", counts)))
                for name in ("clash_resolve", "insert_failed", "drop")}

    def ftp_data(self):
        for family in (4, 6):
            client = FtpClient(self.client, NODE[family], FTP_PORT)
            answer, local, remote = client.passive()
            self.answered("FTP, passive", answer, "mysql-a")
            client.close()
            self.expect(Expected("FTP, control", "tcp", client.local, (NODE[family], FTP_PORT), (MYSQL_A[family], 21)),
                        Expected("FTP, passive", "tcp", local, remote, (MYSQL_A[family], self.ftp.data_port)))
        # The server connects: its source is rewritten before its destination is left as it is (nf_nat_follow_master).
        # Again and again, with what the kernel keeps of the one before.
        for _ in range(3):
            client = FtpClient(self.client, NODE[4], FTP_PORT)
            answer, local, remote = client.active()
            self.answered("FTP, active", answer, "mysql-a")
            self.answered("FTP, active, from", remote[0], NODE[4])
            client.close()
            server = (MYSQL_A[4], self.ftp.data_port)
            self.forget(server, "tcp")
            self.expect(Expected("FTP, control", "tcp", client.local, (NODE[4], FTP_PORT), (MYSQL_A[4], 21)),
                        Expected("FTP, active", "tcp", server, local, (), count=0))

    def conntrack_insert(self):
        for family in (4, 6):
            for case, port, count in (("conntrack -I", 33001, 1), ("conntrack -I, port used again", 33002, 2)):
                client = (CLIENT[family], port)
                for _ in range(count):
                    self.node.run("conntrack", "-I", "-p", "tcp", "-s", client[0], "-d", NODE[family], "--sport", str(port),
                                  "--dport", str(INSERTED), "--dst-nat", host_port(MYSQL_A[family], 3306),
                                  "--state", "ESTABLISHED", "-t", "600")
                    self.forget(client, "tcp")
                self.expect(Expected(case, "tcp", client, (NODE[family], INSERTED), (MYSQL_A[family], 3306), count=count))

    def svclb(self):
        for family in (4, 6):
            for protocol in PROTOCOLS:
                pod, service = (MYSQL_C[family], 3306), (MYSQL.address[family], 3306)
                answer, local = ask_once(self.outside, protocol, NODE[family], SVCLB_PORT)
                self.answered("svclb", answer, "mysql-a")
                self.expect(
                    Expected("svclb, hostPort", protocol, local, (NODE[family], SVCLB_PORT), pod, verdict="hostport"),
                    Expected("svclb, in the pod", protocol, local, pod, service, netns="svclb"),
                    Expected("svclb, Service", protocol, (pod[0], 0), service, MYSQL.endpoint[family], verdict="ok",
                             mechanism="ip_vs"))

    def served_by_ip_vs(self):
        """ip_vs rewrites the entry of conntrack after its null binding (net.ipv4.vs.conntrack=1)."""
        for family in (4, 6):
            for protocol in PROTOCOLS:
                for case, namespace in (("ip_vs", self.client), ("ip_vs, masqueraded", self.outside),
                                        ("ip_vs, from the node itself", self.node)):
                    self.ask(case, namespace, protocol, OTHER.address[family], 6379, "redis", OTHER.endpoint[family],
                             verdict="ok", mechanism="ip_vs")

    # --- the tracers, all of them side by side ------------------------------------------------------------------------

    def run(self):
        netns = {"node": self.node, "svclb": self.cluster.mysql_c}
        tracers = [(where, probe, hptrace.Hptrace(self.node, self.binary, "--json", "--probe", probe, "--netns", namespace.path))
                   for where, namespace in netns.items() for probe in self.probes]
        if all([program.wait_tracing() for *_, program in tracers]):
            for case in (self.rules, self.range_of_addresses, self.hostports, self.retransmit_after_a_drop,
                         self.port_used_again, self.packets_that_meet, self.ftp_data, self.conntrack_insert, self.svclb,
                         self.served_by_ip_vs):
                case()
                self.report.note(case.__name__)
        for where, probe, program in tracers:
            status = program.stop()
            self.compare(where, probe, program, status)
        self.ftp.close()
        self.cluster.close()

    def compare(self, where, probe, program, status):
        mode = next((line.split("(")[1].rstrip(")") for line in program.stderr if line.startswith("hptrace: tracing (")), "")
        found = program.connections()
        cases = {}
        for expected in self.expected:
            if expected.netns == where:
                cases.setdefault(expected.case, []).append(expected)
        shown = 0
        for case, connections in cases.items():
            problems, records = [], []
            for expected in connections:
                keys = [expected.key()] if expected.client[1] else [key for key in found if key[:2] + key[3:] ==
                                                                    expected.key()[:2] + expected.key()[3:]]
                its = [record for key in keys for record in found.pop(key, [])]
                problems += expected.problems(its, mode)
                records += its
            shown += len(records)
            self.report.check([case, len(connections), len(records), mode], problems)
        problems = [str(record) for records in found.values() for record in records]
        self.report.check(["nothing else", "", len(problems), mode], problems)
        summary = (program.records("summary") or [{}])[-1]
        problems = [] if summary.get("rewritten") == shown and shown else [f"{summary.get('rewritten')} rewritten, not {shown}"]
        # Without Services "clean" proves nothing.
        wanted = 0 if where == "node" else 4
        problems += [] if summary.get("lost") == 0 and status == wanted else [f"status {status}: {summary}"]
        problems += [str(record) for record in program.records("lost")]
        self.report.check(["summary", "", summary.get("rewritten"), mode or probe], problems)
        if problems:
            self.report.transcript("\n".join(program.stderr))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hptrace", required=True, help="the binary under test")
    options = parser.parse_args()
    private_mounts("/run/netns", "/var/lib/cni")
    report = Report(f"decisions on {os.uname().release}",
                    (("CASE", 32), ("CONNECTIONS", 11), ("RECORDS", 7), ("PROBE", 17)))
    DecisionsTest(options.hptrace, report).run()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
