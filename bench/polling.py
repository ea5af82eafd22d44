"""For contenders that can only be asked: a call that asks until there is an answer.

Alone on its core it asks without a pause, which is the fastest they can do; where processes share cores it gives the rest
of its time slice away after each vain question.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from .shapes import Case


def until_given(ask: Callable[[], Any], case: Case) -> Callable[[], Any]:
    """`ask` again until it returns something other than None."""
    if case.is_crowded:
        give_way = os.sched_yield

        def patient() -> Any:
            while (answer := ask()) is None:
                give_way()
            return answer

        return patient

    def eager() -> Any:
        while (answer := ask()) is None:
            pass
        return answer

    return eager
