"""What to do where HDF5 cannot lock a file."""

from __future__ import annotations

import errno

#: File systems without locks: NFS whose lock service is not there, Lustre and others mounted without.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


def lock_hint(error: BaseException) -> str:
    """Return what helps against an error of HDF5's where it is about a lock, else an empty text."""
    text = str(error)
    if getattr(error, "errno", None) == errno.ENOLCK or "No locks available" in text:
        return _OFF
    if "lock file" not in text and "lock the file" not in text and "file locking" not in text:
        return ""
    if any(f"errno = {number}," in text for number in NO_LOCKS) or "errno = " not in text:
        return _OFF
    return "another program has it open; wait until it has done"


_OFF = "this file system gives HDF5 no locks: set HDF5_USE_FILE_LOCKING=FALSE in the environment"
