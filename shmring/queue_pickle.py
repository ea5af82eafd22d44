"""The pickles that queues put: protocol 5, with the reductions that multiprocessing has for what belongs to a process.

`pickle.dumps` would take a connection for a number that means something else in another process, and ForkingPickler makes a new
pickler with a chain of tables for each object, 2 us. Here picklers are kept: for a small dict that is faster than pickle.dumps.
A pickler that raised is dropped; one that is in use, by another thread or by the object that is being pickled, is not there.
"""

from __future__ import annotations

import copyreg
from multiprocessing.reduction import ForkingPickler
from pickle import Pickler

PROTOCOL = 5

_ours, _everybodys = ForkingPickler._extra_reducers, copyreg.dispatch_table
_reducers = {}  # both; a dict, as the C pickler looks types up in dicts much faster
_seen = -1  # how many reducers there were then
_idle = []  # picklers: as many as were in use at a time


class _Parts:
    """The file that a pickler writes to: one part, but for large objects."""

    __slots__ = ("write",)


def _make():
    parts, file = [], _Parts()
    file.write = parts.append
    pickler = Pickler(file, PROTOCOL)
    pickler.dispatch_table = _reducers
    return pickler.dump, pickler.clear_memo, parts


def _renew():
    global _seen
    _reducers.update(_everybodys)
    _reducers.update(_ours)
    _seen = len(_ours) + len(_everybodys)


def pack(obj):
    """The object's pickle, as bytes. Raises what pickling it raises."""
    if len(_ours) + len(_everybodys) != _seen:
        _renew()
    try:
        each = _idle.pop()
    except IndexError:
        each = _make()
    dump, clear_memo, parts = each
    dump(obj)
    clear_memo()
    if len(parts) == 1:
        message = parts.pop()
    else:
        message = b"".join(parts)
        parts.clear()
    _idle.append(each)
    return message


def pack_many(objects):
    """The pickle of each object, in a list."""
    if len(_ours) + len(_everybodys) != _seen:
        _renew()
    objects = list(objects)
    dump, clear_memo, parts = _make()
    for obj in objects:
        dump(obj)
        clear_memo()
    return parts if len(parts) == len(objects) else [pack(obj) for obj in objects]
