"""How a command fails: its own error, the request to terminate, and an error's text as Unix tools say it."""

from __future__ import annotations

import errno
import signal
import sys


class CommandFailed(Exception):
    """A command cannot do its work; the text says why and what to do about it."""


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived. Like KeyboardInterrupt no `Exception`: handlers of errors let it pass."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def is_heard(signum: int) -> bool:
    """Whether the signal would end this process: nohup, and shells without job control, have some ignored."""
    return signal.getsignal(signum) not in (signal.SIG_IGN, None)


def complain(command: str | None, reason: str) -> None:
    """Write the one line that says why there is no success."""
    print(": ".join(filter(None, ("shmring", command, reason))), file=sys.stderr, flush=True)


def describe(error: BaseException) -> str:
    """One line for `error`, without Python's "[Errno 2]" and with the file's name in front.

    >>> describe(FileNotFoundError(errno.ENOENT, "No such file or directory", "day.csv"))
    'day.csv: No such file or directory'
    >>> describe(ValueError("a capacity of 0 bytes"))
    'a capacity of 0 bytes'
    """
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror.replace("for who passes trust=", "with --trust ")  # as one says it here
        if error.filename is None:
            return reason
        name = error.filename.decode(errors="replace") if isinstance(error.filename, bytes) else str(error.filename)
        return reason if name in reason else f"{name}: {reason}"
    return " ".join(str(error).split()) or type(error).__name__


def with_filename(error: OSError, name: str) -> OSError:
    """The same error, naming the file: read(2) and write(2) know descriptors only."""
    return OSError(error.errno or errno.EIO, error.strerror or str(error), name)
