"""iceoryx2: publish and subscribe, the publisher waiting for slow subscribers; events of its own wake who sleeps."""

from __future__ import annotations

import ctypes
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from ..polling import until_given
from ..shapes import Case
from . import not_installed

LABEL = "iceoryx2"
PACKAGE = "iceoryx2"
KIND = "attach"
RING = False
OFFERS = frozenset(("pingpong-spin", "pingpong-park", "wakeup", "idle", "oneway", "array", "mpmc", "fanout"))


def missing() -> str:
    return not_installed("iceoryx2", PACKAGE)


def refuses(case: Case) -> str:
    if case.shape.startswith("mpmc") and case.members > 1:
        return "no work queue: every subscriber gets every message"
    return ""


def _root(name: str) -> Path:
    return Path(tempfile.gettempdir()) / f"{name}-iceoryx2"


def create(case: Case, name: str) -> None:
    _root(name).mkdir()


def remove(case: Case, name: str) -> None:
    """A run that was ended leaves its files: they all bear the name of the run."""
    shutil.rmtree(_root(name), ignore_errors=True)
    for path in Path("/dev/shm").glob(f"{name}-iox*"):
        path.unlink(missing_ok=True)


class Endpoint:
    def __init__(self, case: Case, name: str, role: str, number: int = 0) -> None:
        import iceoryx2 as iox2

        iox2.set_log_level(iox2.LogLevel.Fatal)
        self.iox2, self.case, self.size = iox2, case, case.size
        config = iox2.config.default()
        config.global_cfg.prefix = iox2.FileName.new(f"{name}-iox")
        config.global_cfg.root_path = iox2.Path.new(str(_root(name)))
        self.node = iox2.NodeBuilder.new().config(config).create(iox2.ServiceType.Ipc)
        there, back = ("there", "back") if role == "producer" else ("back", "there")
        if role == "consumer" or case.two_way:
            self.listener = self._events(back).listener_builder().create() if case.parks else None
            self.subscriber = self._service(back).subscriber_builder().create()
            self.recv = self._sleeping if case.parks else until_given(self._take, case)
        if role == "producer" or case.two_way:
            service = self._service(there)
            self.notifier = self._events(there).notifier_builder().create() if case.parks else None
            self.publisher = (
                service.publisher_builder()
                .initial_max_slice_len(case.size)
                .backpressure_strategy(iox2.BackpressureStrategy.RetryUntilDelivered)
                .create()
            )
        self._meet(_root(name), role, number)

    def _meet(self, folder: Path, role: str, number: int) -> None:
        """Until messages come through: some of the first ones that are sent to a new subscriber never arrive.

        Each publisher greets (1 + 2k bytes, k being its number) until every subscriber has answered with a file, then says
        that it begins (2 + 2k bytes), and waits for the subscribers, who wait to hear that of every publisher.
        """
        case, publishes = self.case, hasattr(self, "publisher")
        out, back = ("there", "back") if role == "producer" else ("back", "there")
        heard: set[int] = set()
        begun = not publishes
        listens = hasattr(self, "subscriber")

        def answers(what: str) -> bool:
            return len(list(folder.glob(f"{out}-{what}-*"))) == case.groups * case.members

        while not begun or (publishes and not answers("all")) or (listens and len(heard) < case.producers):
            if not begun:
                begun = answers(f"hello{number}")
                self.send(bytes(2 * number + (2 if begun else 1)))
            while listens and (sample := self.subscriber.receive()) is not None:
                greeter, begins = divmod(sample.payload().number_of_elements - 1, 2)
                sample.delete()
                (folder / f"{back}-hello{greeter}-{number}").touch()
                if begins:
                    heard.add(greeter)
                if len(heard) == case.producers:
                    (folder / f"{back}-all-{number}").touch()
                    break
            time.sleep(0.0005)

    def _service(self, direction: str) -> Any:
        iox2, case = self.iox2, self.case
        return (
            self.node.service_builder(iox2.ServiceName.new(direction))
            .publish_subscribe(iox2.Slice[ctypes.c_uint8])
            .enable_safe_overflow(False)
            .subscriber_max_buffer_size(max(2, min(1024, case.capacity // case.size)))
            .max_publishers(case.producers)
            .max_subscribers(case.groups * case.members)
            .payload_alignment(iox2.Alignment.new(16))
            .history_size(0)
            .open_or_create()
        )

    def _events(self, direction: str) -> Any:
        return self.node.service_builder(self.iox2.ServiceName.new(direction)).event().open_or_create()

    def send(self, message: bytes) -> None:
        sample = self.publisher.loan_slice_uninit(len(message))
        ctypes.memmove(sample.payload_ptr, message, len(message))
        sample.assume_init().send()
        if self.notifier:
            self.notifier.notify()

    def _take(self) -> bytes | None:
        sample = self.subscriber.receive()
        if sample is None:
            return None
        message = ctypes.string_at(sample.payload_ptr, self.size)
        sample.delete()
        return message

    def _sleeping(self) -> bytes:
        while (message := self._take()) is None:
            self.listener.blocking_wait()
        return message

    def _array(self, address: int, kind: Any) -> Any:
        import numpy

        return numpy.frombuffer((ctypes.c_uint8 * self.size).from_address(address), kind)

    def send_array(self, value: float) -> None:
        sample = self.publisher.loan_slice_uninit(self.size)
        self._array(sample.payload_ptr, "f4")[:] = value
        sample.assume_init().send()

    def recv_array(self) -> int:
        while (sample := self.subscriber.receive()) is None:
            pass
        total = int(self._array(sample.payload_ptr, "u8").sum())
        sample.delete()
        return total


attach = Endpoint
