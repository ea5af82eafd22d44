"""Whose rings are opened: a name that anybody could have taken first leads to a stranger's file, or by a link anywhere.

Whoever may write a ring's file can forge its messages and keep its users waiting, and /dev/shm and /tmp are everybody's to make
names in. So a ring is opened if its file belongs to this user or to root, and its name is no symbolic link; whom else to trust
is for the caller to say. The file is looked at through its open descriptor, so that nobody can change it in between.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from shmring.errors import UntrustedRing

ANYONE = "anyone"
MOST_LINKS = 8  # links to links


class Trust:
    """The users whose files are opened: `trust=` of open and create, checked once.

    Parameters
    ----------
    who : None, int, iterable of int, or "anyone"
        None: this (effective) user and root, and no links. User ids: those, too, and their links and our own. "anyone": all.
    """

    __slots__ = ("follows", "uids")

    def __init__(self, who: int | str | Iterable[int] | None = None) -> None:
        own = {os.geteuid(), 0}
        self.follows = who is not None
        if who is None:
            self.uids: set[int] | None = own
        elif who == ANYONE:
            self.uids = None
        else:
            given: list[object] = [*who] if isinstance(who, Iterable) and not isinstance(who, str) else [who]
            if any(isinstance(each, bool) or not isinstance(each, int) or each < 0 for each in given):
                raise ValueError(f"trust is None, 'anyone', or user ids, not {who!r}")
            self.uids = own.union(each for each in given if isinstance(each, int))

    def includes(self, uid: int) -> bool:
        return self.uids is None or uid in self.uids

    def check_file(self, fd: int, name: str) -> None:
        """Raises UntrustedRing unless the open file belongs to somebody trusted."""
        status = os.fstat(fd)
        if not self.includes(status.st_uid):
            raise UntrustedRing(
                errno.EACCES,
                f"{name!r} was made by {describe(status.st_uid)}, who could forge or hold up its messages; it is opened only "
                f"for who passes trust={status.st_uid}",
            )

    def resolve(self, path: str, name: str) -> str:
        """The path that `path` leads to over links whose makers are trusted: itself, if it is no link (any more)."""
        for _ in range(MOST_LINKS):
            try:
                link = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:
                return path  # whoever opens it finds out
            try:
                maker = os.fstat(link).st_uid
                try:
                    target = os.readlink("", dir_fd=link)
                except OSError:
                    return path  # no link
            finally:
                os.close(link)
            if not self.follows or not self.includes(maker):
                raise refuse_link(name, target, maker)
            path = os.path.join(os.path.dirname(path), target)
        return path


def refuse_link(name: str, target: str | None = None, maker: int | None = None) -> UntrustedRing:
    to = f" to {target!r}" if target is not None else ""
    by = f" that {describe(maker)} made" if maker is not None else ""
    advice = f"; it is followed only for who passes trust={maker}" if maker is not None else "; open the file that it leads to"
    return UntrustedRing(errno.ELOOP, f"{name!r} is a symbolic link{to}{by}, which may lead anywhere{advice}")


def describe(uid: int) -> str:
    """A user, for messages."""
    import pwd

    try:
        return f"user {pwd.getpwuid(uid).pw_name!r} ({uid})"
    except (KeyError, OverflowError):
        return f"user {uid}"
