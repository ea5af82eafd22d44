"""Codecs: objects to bytes and back. They know nothing of rings; shmring.objects joins the two.

A codec is any object with

    name                            str: 1 to 64 letters, digits and "._-"; what a ring's content calls it ("codec NAME")
    pack(obj) -> packed             `bytes`; or, for what is large, an object with `nbytes` and `write_into(memory)`, which
                                    fills the first nbytes of a writable memoryview, once
    unpack(data, *, borrow=False)   the object. `data` is bytes or a contiguous memoryview of a message; only with borrow=True
                                    may the object go on using its memory, and must not write to it then
    runs_code                       optional bool: True if unpack may run code that the writer of the bytes chose

`unpack` raises CodecError for bytes that are no message of it, whatever they are. `pack` raises what fits the object. Both may
be called by several threads at once.

Built in: "raw" (bytes as they are), "pickle" (anything, between peers that trust each other), "ndarray" (arrays; needs NumPy),
"msgspec" (msgpack, for peers that need not be trusted; needs msgspec). Each is loaded when it is first asked for.
"""

from shmring.errors import CodecError, UnknownCodec

__all__ = ["CodecError", "UnknownCodec", "check", "get", "register"]

_BUILT_IN = {"raw": "raw", "pickle": "pickled", "ndarray": "ndarray", "msgspec": "msgpack"}
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_known = {}


def get(name):
    """The codec of that name.

    Raises
    ------
    UnknownCodec
        There is none in this process: the module that registers it was not imported.
    ImportError
        It needs a package that is not installed; the text says which.
    """
    codec = _known.get(name)
    if codec is not None:
        return codec
    if name not in _BUILT_IN:
        raise UnknownCodec(
            f"there is no codec {name!r} in this process: import the module that registers it (shmring.codecs.register); "
            f"known are {', '.join(sorted({*_BUILT_IN, *_known}))}"
        )
    from importlib import import_module

    return _known.setdefault(name, import_module(f"shmring.codecs.{_BUILT_IN[name]}").codec)


def check(codec):
    """The same codec; ValueError or TypeError if it lacks something. As register, but nobody else gets to know it."""
    name = getattr(codec, "name", None)
    if name is None:
        raise TypeError(f"a codec has a name and the methods pack and unpack, {codec!r} has no name")
    if not isinstance(name, str) or not 1 <= len(name) <= 64 or not all(c in _LETTERS for c in name):
        raise ValueError(f"a codec's name is 1 to 64 letters, digits and '._-', not {name!r}")
    for method in ("pack", "unpack"):
        if not callable(getattr(codec, method, None)):
            raise TypeError(f"codec {name!r} has no method {method}")
    return codec


def register(codec, *, replace=False):
    """Make a codec known in this process under its own name. Both sides of a ring have to.

    Parameters
    ----------
    codec : object
        As this module's head describes.
    replace : bool
        Allow that another codec had the name.

    Returns
    -------
    codec
        The same, so that it can be used at once.

    Raises
    ------
    ValueError, TypeError
        The name is taken or unfit; a method is missing.
    """
    name = check(codec).name
    if name in _BUILT_IN or (not replace and _known.get(name, codec) is not codec):
        raise ValueError(f"there is a codec {name!r} already")
    _known[name] = codec
    return codec
