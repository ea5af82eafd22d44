"""One line that says what is being measured and how long it will take yet: live on a terminal, nothing elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Column


class Line:
    """`expect` says how many steps there will be; each call is the begin of one."""

    def __init__(self, budget_seconds: float = 0) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            BarColumn(bar_width=16),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", table_column=Column(no_wrap=True)),
            console=console,
            auto_refresh=False,  # a thread that draws would take time from who is measured
            disable=not console.is_terminal,
            expand=True,
        )
        self._task = self._progress.add_task("starting", total=None, left="")
        self._budget, self._began, self._done, self._total = budget_seconds, time.monotonic(), -1, 0

    def __enter__(self) -> Line:
        self._progress.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def expect(self, steps: int) -> None:
        self._done, self._total = -1, steps

    def __call__(self, text: str) -> None:
        self._done += 1
        passed = time.monotonic() - self._began
        total = self._total or None
        left = ""
        if total and self._done >= 10:
            seconds = passed / self._done * (total - self._done)
            if self._budget:
                seconds = min(seconds, max(0.0, self._budget - passed))
            left = f"{int(seconds) // 60}:{int(seconds) % 60:02d} left"
        self._progress.update(self._task, description=text, completed=max(0, self._done), total=total, left=left)
        self._progress.refresh()
