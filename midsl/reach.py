"""What a spec reaches: it works in its own folder, and reads nowhere else unless its user says so.

A spec is often somebody else's. What it names by a path it reads only below its folder, in the cache of
models from the hub, and where whoever starts it points: by the value of a parameter, by `--allow PATH`, or
by `--trust`. Everything that opens a file for a spec asks `may_read` first; for others there is no bound.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from midsl.diagnostics.model import fail


@dataclass(frozen=True)
class Trust:
    """What its user lets a spec do beyond what any spec may.

    Attributes:
        code: run Python outside the standard library, and so whatever that does; reads are free then.
        paths: files and folders that it may read.
    """

    code: bool = False
    paths: tuple[Path, ...] = ()

    def __bool__(self) -> bool:
        return self.code or bool(self.paths)

    def words(self) -> list[str]:
        """The same as words of a command line."""
        return ["--trust"] * self.code + [w for p in self.paths for w in ("--allow", str(p))]


NO_TRUST = Trust()


def trusting(code: bool | Trust, paths: Iterable[str | Path] = ()) -> Trust:
    """`--trust` and `--allow`; paths are relative to where the command was given."""
    if isinstance(code, Trust):
        return code
    return Trust(code, tuple(Path(p).absolute() for p in paths))


@dataclass
class Reach:
    """Where a spec works, and what it may read.

    Attributes:
        folder: the spec's own, which its paths are relative to.
        trust: what else it may do.
        words: values of its parameters: where one names what there is, its user meant that.
        used: what was read by leave of `trust` alone.
    """

    folder: Path = field(default_factory=Path.cwd)
    trust: Trust = NO_TRUST
    words: Mapping[str, str] = field(default_factory=dict)
    used: list[str] = field(default_factory=list)

    @cached_property
    def roots(self) -> tuple[Path, ...]:
        """Files, and folders with all below them, in the form without links."""
        said = (self.folder / w for w in self.words.values() if w and "\0" not in w)
        return tuple(p.resolve() for p in (self.folder, hub_cache(), *(p for p in said if _exists(p))))

    def has(self, path: Path) -> bool:
        """Whether a path, as the spec has it, may be read; links are followed to what they lead to."""
        try:
            real = (self.folder / path).resolve()
        except (ValueError, OSError, RuntimeError):  # a zero byte, a loop of links
            return False
        if any(map(real.is_relative_to, self.roots)):
            return True
        allowed = self.trust.code or any(real.is_relative_to(p.resolve()) for p in self.trust.paths)
        if allowed and str(path) not in self.used:
            self.used.append(str(path))
        return allowed


_here: list[Reach] = []
"""The specs that are being worked on; the innermost last. It goes with the working folder of the process."""


@contextmanager
def working_in(reach: Reach) -> Iterator[None]:
    """Be in the folder of a spec for a while, and read what it may read."""
    before = Path.cwd()
    os.chdir(reach.folder)
    _here.append(reach)
    try:
        yield
    finally:
        _here.pop()
        os.chdir(before)


def may_read(path: str | Path) -> Path:
    """A file or folder that the spec may read; of a folder, what its links lead to as well.

    Raises:
        MiError: MI0516 if it lies elsewhere; whether it is there is not told.
    """
    path = Path(path)
    if not _here or (_here[-1].has(path) and all(map(_here[-1].has, _links(path)))):
        return path
    raise fail(
        "MI0516",
        f"{path} is outside the folder of the spec",
        help=f"name it by a parameter, or say `--allow {os.path.normpath(path.absolute())}`",
    )


def hub_cache() -> Path:
    """Where models and tokenizers that came from the hub are kept."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    home = Path(os.environ.get("HF_HOME") or cache / "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a text that is no path: too long
        return False


def _links(path: Path) -> Iterator[Path]:
    """The links in a folder, at any depth."""
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            if (found := Path(folder, name)).is_symlink():
                yield found
