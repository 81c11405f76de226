"""The threads of a process: started here, joined here, and nowhere else.

Each thread runs `step()` again and again; what it returns is how long to wait. An exception in any
of them stops all, is kept, and is raised by `join`, so the process ends with a message and the
service manager restarts it. The watchdog is fed only while every loop has turned lately.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

STALLED_S: Final = 20.0  # no single step takes this long on a healthy machine


class Crew:
    """Named threads that live and die together."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._turned: dict[str, float] = {}
        self._failure: BaseException | None = None

    def start(self, name: str, step: Callable[[], float]) -> None:
        """Run `step` in a thread until the crew stops, waiting as long as it says, in seconds."""

        def loop() -> None:
            while not self.stop.is_set():
                self._turned[name] = time.monotonic()
                self.stop.wait(step())

        self.run(name, loop)

    def run(self, name: str, work: Callable[[], None]) -> None:
        """Run `work` in a thread; it watches `stop` itself."""

        def guarded() -> None:
            try:
                work()
            except BaseException as failure:  # noqa: BLE001 - kept, and raised again by join
                self._failure = self._failure or failure
                self.stop.set()

        thread = threading.Thread(target=guarded, name=name)
        self._threads.append(thread)
        thread.start()

    def healthy(self) -> bool:
        """Return whether every loop has turned lately."""
        now = time.monotonic()
        return all(now - turned < STALLED_S for turned in list(self._turned.values()))

    def join(self) -> None:
        """Stop and join all.

        Raises:
            BaseException: what ended the first thread that failed.
        """
        self.stop.set()
        for thread in self._threads:
            thread.join()
        if self._failure is not None:
            raise self._failure
