# SPDX-License-Identifier: GPL-2.0-or-later
"""What goes on beside a test."""

import threading
import time


class Repeated:
    """Does something again and again, in a thread, until close()."""

    def __init__(self, action, interval=0):
        """interval: seconds from the beginning of one turn to the next, if a turn does not take longer."""
        self.times = []  # seconds that each turn took
        self._action, self._interval = action, interval
        self._problem = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self):
        """Ends it after the turn that is under way. Raises what went wrong in one: that was the last."""
        self._stop.set()
        self._thread.join()
        if self._problem:
            raise self._problem

    def _run(self):
        try:
            while not self._stop.is_set():
                began = time.monotonic()
                self._action()
                self.times.append(time.monotonic() - began)
                self._stop.wait(max(0.0, self._interval - self.times[-1]))
        except Exception as error:  # it is for close()
            self._problem = error
