"""What a file of a decomposition says: its kind, its settings, and where each of its tensors lies.

A *kind* is a way to encode (relu, topk, jumprelu, gated, ..). Tensors go by one set of names in all formats:
`enc` [in, code], `dec` [code, out], `b` [out], `b_enc` [code], `skip` [in, out] and so on; a `Layout` says
under which key, and with its axes in which order, a format keeps each. Reading and writing go by the same
layouts, so that a round trip cannot lose one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from midsl.artefacts.headers import AGAIN, header
from midsl.diagnostics.model import MiError, fail

Layout = Mapping[str, tuple[str, tuple[str, ...]]]
"""Tensor by our name -> its key in the file, and its axes there."""
Setting = int | float | bool | str
WHERE = "paths are relative to the spec"

AXES: dict[str, tuple[str, ...]] = {
    "enc": ("in", "code"),
    "dec": ("code", "out"),
    "b": ("out",),
    "b_enc": ("code",),
    "threshold": ("code",),
    "cut": (),
    "b_gate": ("code",),
    "b_mag": ("code",),
    "r_mag": ("code",),
    "skip": ("in", "new"),
    "weight": ("in", "new"),
    "bias": ("new",),
}
"""Our order of each tensor's axes. `in` is what is read, `out` what is written, `new` an axis as long as
`out` that has a name of its own (a matrix of a space into itself has no two axes of one name)."""


def axes_of(name: str, layered: bool) -> tuple[str, ...]:
    """Our order of a tensor's axes; at several layers, `layer` first, and `target`, where it writes."""
    target = ("target",) if name == "dec" else ()
    return ("layer", *target, *AXES[name]) if layered else AXES[name]


@dataclass(frozen=True)
class Kept:
    """A tensor in a file.

    Attributes:
        key: its name there.
        axes: its axes there, in order.
        shape: its shape there; None where only reading the file would tell (`.pt`).
        least: what no entry is below, if the format computes something else there.
    """

    path: Path
    key: str
    axes: tuple[str, ...]
    shape: tuple[int, ...] | None
    least: float | None = None


@dataclass(frozen=True)
class Artefact:
    """A decomposition as a folder or file describes it.

    Attributes:
        format: the package whose format it is.
        kind: how it encodes.
        sizes: how long `in`, `code` and `out` are.
        settings: what else the kind needs: `k`, `subtract`, ..
        tensors: where each tensor is, by our name; of one that is at several layers, where each layer's is.
        hook, hook_out: where in the model it reads and writes, as the format spells it; "" if it is silent.
        heads: whether what it reads and writes is all heads' output, one after the other.
        config: the configuration as found.
        fixed: what some keys hold, which are none of the tensors: all entries one number, or a list.
        also: other keys that the file may have.
        layers: how many layers it is at together; 0 if it is at one place.
    """

    format: str
    kind: str
    sizes: Mapping[str, int]
    settings: Mapping[str, Setting]
    tensors: Mapping[str, Kept | tuple[Kept, ...]]
    hook: str = ""
    hook_out: str = ""
    heads: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, int | tuple[int, ...]] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    layers: int = 0


def not_understood(what: str, path: Path, help: str = "mend the file, or make it again") -> MiError:
    """MI0514: something stands there that would be another decomposition if it were passed over."""
    return fail("MI0514", f"{path.name}: {what}", help=help)


def read_json(path: Path) -> dict[str, Any]:
    """A configuration. Raises MI0504 if it cannot be read, MI0510 if it is not a JSON object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise fail("MI0504", f"cannot read {path}: {error.strerror}", help=WHERE) from None
    except (ValueError, RecursionError) as error:
        raise fail("MI0510", f"{path} is not JSON: {error}", help=AGAIN) from None
    if not isinstance(found, dict):
        raise fail("MI0510", f"{path} is not a configuration: it holds no object", help=AGAIN)
    return found


def number(config: Mapping[str, Any], key: str, path: Path) -> int:
    """A whole number of a configuration, at least 1."""
    value = config.get(key)
    if type(value) is not int or value < 1:
        raise not_understood(f"`{key}` is {json.dumps(value)}", path, "a whole number, at least 1")
    return value


def flag(config: Mapping[str, Any], key: str, default: bool, path: Path) -> bool:
    """A truth value of a configuration."""
    value = config.get(key, default)
    if type(value) is not bool:
        raise not_understood(f"`{key}` is {json.dumps(value)}", path, "true or false")
    return value


def gather(path: Path, layout: Layout, sizes: Mapping[str, int], also: Sequence[str] = ()) -> dict[str, Kept]:
    """Where each tensor of a layout is: all of them, of the right shapes, and nothing else.

    `also`: other keys that may be there. A `.pt` is believed until it is loaded.

    Raises:
        MiError: MI0514 if keys are missing, left over, or of other shapes.
    """
    found = header(path)
    kept = {name: Kept(path, key, axes, None) for name, (key, axes) in layout.items()}
    if found is None:
        return kept
    check_keys(path, found, {k.key for k in kept.values()}, also)
    lengths = {**sizes, "new": sizes["out"]}
    for k in kept.values():
        wanted = tuple(lengths[a] for a in k.axes)
        if found[k.key][0] != wanted:
            raise not_understood(f"`{k.key}` is {list(found[k.key][0])} and not {list(wanted)}", path)
        if found[k.key][1] not in ("F32", "F16", "BF16"):
            raise not_understood(
                f"`{k.key}` is kept as {found[k.key][1]}",
                path,
                "float32, float16 or bfloat16: midsl has no more",
            )
    return {n: Kept(path, k.key, k.axes, found[k.key][0]) for n, k in kept.items()}


def check_keys(path: Path, found: Mapping[str, object], wanted: set[str], also: Sequence[str] = ()) -> None:
    """Refuse a file that has less or more than is wanted (MI0514)."""
    if missing := sorted(wanted - found.keys()):
        raise not_understood(f"there is no `{missing[0]}`", path, f"it has {', '.join(sorted(found))}")
    if extra := sorted(found.keys() - wanted - set(also)):
        raise not_understood(
            f"what is `{extra[0]}`?", path, f"this kind of decomposition has {', '.join(sorted(wanted))}"
        )


def content(path: Path) -> str:
    """sha256 of a file's bytes."""
    stat = path.stat()
    return _content(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(256)
def _content(path: Path, changed: int, size: int) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
