"""asyncio's own streams over a Unix socket, with a length before each message."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path
from typing import Any

from .. import aio
from ..shapes import Case

LABEL = "asyncio streams"
PACKAGE = ""
KIND = "attach"
RING = False
OFFERS = frozenset(("aio",))
LENGTH = struct.Struct("<I")


def missing() -> str:
    return ""


def refuses(case: Case) -> str:
    return aio.missing(case) if case.shape in OFFERS else "here for its event loop only"


def _path(name: str) -> Path:
    return Path(tempfile.gettempdir()) / f"{name}.sock"


def create(case: Case, name: str) -> None:
    pass


def remove(case: Case, name: str) -> None:
    _path(name).unlink(missing_ok=True)


class Endpoint:
    def __init__(self, case: Case, name: str, role: str, number: int = 0) -> None:
        self.path, self.role = str(_path(name)), role

    async def connect(self) -> tuple[Any, Any]:
        reader, writer = await (self._dial() if self.role == "producer" else self._answer())

        async def send(message: bytes) -> None:
            writer.write(LENGTH.pack(len(message)) + message)
            await writer.drain()

        async def recv() -> bytes:
            (size,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
            return await reader.readexactly(size)

        return send, recv

    async def _dial(self) -> Any:
        import asyncio

        while True:
            try:
                return await asyncio.open_unix_connection(self.path)
            except (FileNotFoundError, ConnectionRefusedError):  # the other program is not there yet
                await asyncio.sleep(0.01)

    async def _answer(self) -> Any:
        import asyncio

        came: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.server = await asyncio.start_unix_server(lambda *streams: came.set_result(streams), self.path)
        return await came


attach = Endpoint
