"""What an unbounded queue has put and the ring has no room for: kept in this process, and sent by a thread as room comes.

It exists so that `put` of a queue without maxsize never waits, as in multiprocessing, where a feeder thread is always there;
here it starts with the first message that finds the ring full, and ends when all are sent.

Invariant: while a message is here, every later one of this process comes here too, so that they stay in order.
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any


class Spill:
    """Messages on their way into the ring.

    Parameters
    ----------
    send
        Sends one, and waits for room.
    lock : RLock
        The queue's. `add` is called while it is held; so is `when_empty`, once, when all were sent.
    must_join : bool
        Does the interpreter wait at its end until they are sent?
    """

    def __init__(
        self, send: Callable[[bytes], object], lock: threading.RLock, when_empty: Callable[[], None], must_join: bool
    ) -> None:
        self._send, self._lock, self._when_empty = send, lock, when_empty
        self._messages: deque[bytes] = deque()
        self._finalizer: Any = None
        self._thread = threading.Thread(target=self._send_all, name="shmring-spill", daemon=True)
        if must_join:
            self._join_at_exit()

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, messages: Iterable[bytes]) -> None:
        self._messages.extend(messages)
        if self._thread.ident is None:
            self._thread.start()

    def join(self) -> None:
        """Wait until all are sent."""
        if self._thread.ident is not None:
            self._thread.join()

    def cancel_join(self) -> None:
        """The end of the interpreter does not wait for what is here; it is lost then."""
        atexit.unregister(self.join)
        if self._finalizer is not None:
            self._finalizer.cancel()

    def _join_at_exit(self) -> None:
        atexit.register(self.join)  # after shmring.participant's, hence run before it, which closes the producer
        if "multiprocessing" in sys.modules:  # its children end without atexit (before Python 3.14)
            from multiprocessing.util import Finalize

            self._finalizer = Finalize(None, self.join, exitpriority=-5)

    def _send_all(self) -> None:
        try:
            while True:
                self._send(self._messages[0])
                with self._lock:
                    self._messages.popleft()
                    if not self._messages:
                        self._when_empty()
                        return
        except Exception as error:  # the ring was shut down, cut or damaged: the next put says so to its caller
            with self._lock:
                logging.getLogger("shmring").error("%d messages of a queue could not be sent: %s", len(self._messages), error)
                self._messages.clear()
                self._when_empty()
        finally:
            self.cancel_join()
