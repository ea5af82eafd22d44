"""The table from errno to class: complete, one class per cause, and each text says what to do."""

from __future__ import annotations

import errno
import os
import pickle

import pytest

from shmring import errors

EXPECTED = {
    errno.EACCES: (errors.AccessDenied, PermissionError),
    errno.EAGAIN: (errors.LockLimit, OSError),
    errno.EBADF: (errors.BadDescriptor, OSError),
    errno.EINVAL: (errors.BadGeometry, ValueError),
    errno.ENFILE: (errors.TooManyFilesInSystem, OSError),
    errno.EMFILE: (errors.TooManyFiles, OSError),
    errno.ENODEV: (errors.CannotMap, OSError),
    errno.ENOMEM: (errors.OutOfMemory, MemoryError),
    errno.EPERM: (errors.NotPermitted, PermissionError),
    errno.EROFS: (errors.NotPermitted, PermissionError),
    errno.ENOSPC: (errors.NoSpace, OSError),
    errno.EDQUOT: (errors.NoSpace, OSError),
    errno.EFBIG: (errors.FileTooLarge, OSError),
    errno.ETXTBSY: (errors.FileBusy, OSError),
    errno.EEXIST: (errors.MappingExists, FileExistsError),
    errno.ENOENT: (errors.MappingNotFound, FileNotFoundError),
    errno.EISDIR: (errors.IsDirectory, IsADirectoryError),
    errno.EOVERFLOW: (errors.BadGeometry, ValueError),
}


@pytest.mark.parametrize("code", EXPECTED, ids=errno.errorcode.get)
def test_each_errno_has_its_class_and_its_advice(code):
    kind, builtin = EXPECTED[code]
    error = errors.mapping_error(code, "do it", "the-name", numbers="needed 1, free 0")
    assert type(error) is kind and isinstance(error, builtin)
    assert isinstance(error, OSError) and isinstance(error, errors.Error)
    assert error.errno == code and error.filename == "the-name"
    assert (
        "cannot do it" in str(error)
        and os.strerror(code) in str(error)
        and "needed 1, free 0; " in str(error)
    )
    assert len(str(error).partition("free 0; ")[2]) > 20  # advice
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind and str(copy) == str(error)


def test_an_errno_without_a_class_is_still_ours():
    error = errors.mapping_error(errno.ELOOP, "open it")
    assert (
        type(error) is errors.MappingError
        and error.errno == errno.ELOOP
        and os.strerror(errno.ELOOP) in str(error)
    )


def test_a_cause_that_the_errno_does_not_tell_keeps_the_errno():
    error = errors.mapping_error(errno.ENOMEM, "map", cause=errors.TooManyMappings, numbers="9 mappings")
    assert (
        type(error) is errors.TooManyMappings
        and error.errno == errno.ENOMEM
        and "max_map_count" in str(error)
    )
    error = errors.mapping_error(errno.EPERM, "lock", cause=errors.LockLimit)
    assert error.errno == errno.EPERM and "ulimit -l" in str(error)
