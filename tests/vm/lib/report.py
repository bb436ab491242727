# SPDX-License-Identifier: GPL-2.0-or-later
"""The table a test prints, and the count at its end."""

import time

from lib.kernel import KernelLog


class Report:
    """One line per check; finish() says how many failed and returns the exit status. What the kernel complains of
    meanwhile counts as one."""

    def __init__(self, title, columns):
        self._widths = [max(width, len(name)) for name, width in columns]
        self._passed = 0
        self._failed = []
        self._began = time.monotonic()
        self._kernel_log = KernelLog()
        print(f"# {title}")
        print(self._row([name for name, _ in columns]), flush=True)

    def check(self, cells, problems=()):
        """A check with its cells; no problems: passed."""
        line = self._row(cells)
        print(f"{line}  {'FAIL' if problems else 'PASS'}")
        for problem in problems:
            print(f"      {problem}")
        print(end="", flush=True)
        if problems:
            self._failed.append(line.rstrip())
        else:
            self._passed += 1

    def note(self, text):
        print(f"# {time.monotonic() - self._began:6.1f}s  {text}", flush=True)

    def transcript(self, text):
        """What a program said, for whoever reads a failure."""
        print("\n".join("    | " + line for line in text.splitlines()), flush=True)

    @property
    def failures(self):
        return len(self._failed)

    def finish(self):
        self.check(["kernel log"], self._kernel_log.complaints())
        seconds = time.monotonic() - self._began
        for line in self._failed:
            print(f"FAILED: {line}")
        print(f"{self._passed} passed, {len(self._failed)} failed, {seconds:.0f} s", flush=True)
        return 1 if self._failed or not self._passed else 0

    def _row(self, cells):
        return "  ".join(str(cell).ljust(width) for cell, width in zip(cells, self._widths))
