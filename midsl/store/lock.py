"""File locks and atomic writes: what makes a store survive `kill -9` and two writers.

Locks are `flock`, which the kernel drops when their holder dies, however it dies: a lock that can
be had means that nobody is at work, and none is ever left over.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def try_lock(path: Path) -> int | None:
    """Take the lock file if nobody holds it: the open descriptor to close later, else None."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return fd


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock; a lock file that is not there is not held."""
    if not path.exists():
        return False
    with path.open("rb") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who ask do not see each other
        except BlockingIOError:
            return True
    return False


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Hold the lock, waiting at most `seconds` for it.

    Raises:
        TimeoutError: if somebody else holds it all that time.
    """
    until = time.monotonic() + seconds
    while (fd := try_lock(path)) is None:
        if time.monotonic() >= until:
            raise TimeoutError(f"{path} is held by another process")
        time.sleep(0.05)
    try:
        yield
    finally:
        os.close(fd)


def commit(tmp: Path, final: Path) -> None:
    """Move a finished temporary file to its place, its bytes on the disk first."""
    with tmp.open("rb") as f:
        os.fsync(f.fileno())
    os.replace(tmp, final)  # noqa: PTH105 - the one call that is atomic on every system


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing."""
    tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    tmp.write_text(text, encoding="utf-8")
    commit(tmp, path)


def copy_file(source: Path, final: Path) -> None:
    """Copy a whole file or nothing."""
    tmp = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    shutil.copyfile(source, tmp)
    commit(tmp, final)
