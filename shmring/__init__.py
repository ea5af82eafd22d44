"""Messages between Python processes through a lock-free ring in shared memory."""

from shmring.errors import *  # noqa: F403
from shmring.mapping import Mapping

__all__ = ["Mapping"]
