# SPDX-License-Identifier: GPL-2.0-or-later
"""hptrace's live verdict on every connection, held against who answered."""

import json

from lib.hptrace import Hptrace, connection_key


class Watch:
    """`with Watch(binary, namespace) as watch:` traces what happens inside; no binary: watches nothing."""

    def __init__(self, binary, namespace):
        self._binary, self._namespace = binary, namespace
        self._tracer, self._broken = None, []

    def __enter__(self):
        if self._binary:
            self._tracer = Hptrace(self._namespace, self._binary, "--json")
            if not self._tracer.wait_tracing():
                self._broken.append("hptrace did not reach `hptrace: tracing`")
        return self

    def __exit__(self, *_):
        if self._tracer:
            self._status = self._tracer.stop()

    def disagreements(self, attempts, reasons=lambda attempt: ()):
        """What hptrace says differently from who answered, one line each. reasons: the reason codes that are true if
        it was hijacked; empty: any."""
        if not self._tracer:
            return []
        if self._broken:
            return self._broken + [self._tracer.transcript()]
        found = {}
        for record in self._tracer.records("connection"):
            found.setdefault(connection_key(record), []).append(record)
        problems = [f"hptrace: {record}" for kind in ("lost", "gap", "not JSON") for record in self._tracer.records(kind)]
        for attempt in attempts:
            records = found.get((attempt.protocol, *attempt.local, attempt.address, attempt.port), [])
            verdicts = [record.get("verdict") for record in records]
            allowed = expected_verdicts(attempt)
            if allowed and (len(verdicts) != 1 or verdicts[0] not in allowed):
                problems.append(f"hptrace: {attempt.name}: answered by {attempt.answer}, verdicts {verdicts}, not {allowed}"
                                + "".join(f"\n    {json.dumps(record)[:400]}" for record in records[:2 * (len(verdicts) > 1)]))
            elif allowed == ("hijacked",) and (codes := reasons(attempt)) and records[0].get("reason_code") not in codes:
                problems.append(f"hptrace: {attempt.name}: reason {records[0].get('reason_code')}, not {' or '.join(codes)}")
        return problems


def expected_verdicts(attempt):
    """The verdicts that agree with who answered; empty where nothing need have been rewritten."""
    by = attempt.by()
    if by == "hostport":
        return ("hijacked",) if attempt.service else ("hostport",)
    return ("ok",) if by == "service" else ()
