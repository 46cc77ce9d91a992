"""Plain state dicts: tensors under names that somebody's training code gave them.

The names say most of the architecture (sizes, which norms and biases there are); what they can't say (the
number of heads of a fused projection, the activation) the spec gives in `arch`. Nothing is left to chance:
every tensor of the file is used or known to be derived, and every tensor of the model comes from the file.
"""

from __future__ import annotations

import base64
import binascii
import json
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midsl.diagnostics.model import MiError, fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.models.config import DEFAULTS, TinyConfig, tiny_config, unknown_key
from midsl.models.facts import Facts
from midsl.models.names import CONVENTIONS, Convention, Shapes, Source, Weights, recognise
from midsl.models.tokens import plain_tokenizer
from midsl.models.toy import tiny_facts
from midsl.reach import may_read
from midsl.unpack import check_archive

if TYPE_CHECKING:
    from torch import Tensor

    from midsl.models.loaded import LoadedModel


def describe_state_dict(
    path: str,
    arch: Mapping[str, Any] | None = None,
    names: str = "auto",
    tokenizer: str = "",
    words: Sequence[str] = (),
    chars: str = "",
    bos: str = "",
    inside: str = "",
) -> Facts | None:
    """Return the facts of `state_dict` with these arguments; None for a `.pt`, which only torch can read."""
    found = _shapes_of(_readable(path))
    if found is None:
        return None
    return tiny_facts(_configure(*found, arch or {}, names, Path(path).name)[1])


def state_dict(
    path: str,
    arch: Mapping[str, Any] | None = None,
    names: str = "auto",
    tokenizer: str = "",
    words: Sequence[str] = (),
    chars: str = "",
    bos: str = "",
    inside: str = "",
) -> LoadedModel:
    """Load a small transformer from a plain file of tensors.

    Args:
        path: `.safetensors`, `.pt` or `.pth` (tensors only), or JSON ``{name: {shape, dtype, data}}`` with
            base64 of little-endian data.
        arch: fields of `TinyConfig` that the tensors can't tell (``heads``, ``act``), or that differ from
            the convention (``causal: false``, ``norm: "none"``, ``attn_scale``, ``logits_at``).
        names: "minGPT" (makemore too), "nanoGPT", "TransformerLens", "midsl", or "auto" to go by the file.
        tokenizer: a tokenizer's folder or file; else `words` or `chars`, one per token id; else integers.
        bos: which of the words or characters begins a row.
        inside: the key under which a checkpoint keeps the state dict, where it keeps more than that.

    Raises:
        MiError: MI0504 if the file cannot be read, MI0508 if it would run code, MI0509 if `arch` or `names`
            is not valid, MI0510 if the file is damaged, or tensors are missing, left over or of other shapes.
    """
    from midsl.models.loaded import loaded
    from midsl.models.tiny import TinyTransformer

    tensors, said = _read(_readable(path), inside)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    convention, config = _configure(shapes, said, arch or {}, names, Path(path).name)
    module = TinyTransformer(config)
    source = Source(tensors)
    try:
        converted = convention.convert(source, config)
    except (RuntimeError, IndexError) as error:  # a split or reshape that does not come out
        raise fail(
            "MI0510",
            f"{path}: tensors do not fit the configuration: {error}",
            help="the sizes in `arch:` must be those that the weights were saved with",
        ) from error
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    weights = _match(path, wanted, source, converted, convention.derived)
    module.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    made = plain_tokenizer(config.vocab, path=tokenizer, words=words, chars=chars, bos=bos)
    return loaded(tiny_facts(config), module, module, made, "blocks", config.ctx)


def _configure(
    shapes: Shapes, said: Mapping[str, Any], arch: Mapping[str, Any], names: str, what: str
) -> tuple[Convention, TinyConfig]:
    """Complete a configuration from tensor shapes, what the file says itself, and the spec, in this order.

    Raises:
        MiError: MI0509 if the convention is unknown or something is left open, MI0510 if the names follow
            no convention.
    """
    if names == "auto":
        found = recognise(shapes)
        if not found:
            first = ", ".join(sorted(shapes)[:3])
            raise fail(
                "MI0510", f"{what}: its tensor names follow no known convention", help=f"it has {first}"
            )
        if len(found) > 1 and "act" not in arch:
            raise fail(
                "MI0509",
                f"{what}: {' and '.join(found)} name their tensors alike but differ in their GELU",
                help='say names: "minGPT" (tanh GELU) or names: "nanoGPT" (exact GELU)',
            )
        names = found[0]
    if names not in CONVENTIONS:
        hint = did_you_mean(names, CONVENTIONS) or f"one of {', '.join(CONVENTIONS)}, auto"
        raise fail("MI0509", f"unknown naming convention `{names}`", help=hint)
    for key in arch:
        if key not in DEFAULTS:
            raise unknown_key(key, DEFAULTS, "arch")
    convention = CONVENTIONS[names]
    fields = {**convention.infer(shapes), **said, **arch}
    wanted = ["vocab", "d_model", "layers", "heads", "ctx", "pos", "norm"]
    for name in [*wanted, "act"] if fields.get("d_mlp") else wanted:
        if not fields.get(name):
            raise fail(
                "MI0509",
                f"{what}: its tensors do not tell `{name}`",
                help=f"give it: arch: {{ {name}: ... }}, or check that the file follows {names}'s names",
            )
    return convention, tiny_config(fields, what)


def _match(path: str, wanted: Shapes, source: Source, got: Weights, derived: str) -> dict[str, Tensor]:
    """Return the converted weights once each is there, has its shape, and nothing else is in the file.

    Raises:
        MiError: MI0510 naming the first tensors that do not match.
    """
    left = [n for n in source.tensors if n not in source.used and not re.fullmatch(derived, n)]
    weights = {name: tensor for name, tensor in got.items() if tensor is not None}
    shapes = [
        f"{name} is {tuple(tensor.shape)}, not {wanted[name]}"
        for name, tensor in weights.items()
        if tuple(tensor.shape) != wanted.get(name)
    ]
    for problem, items in (("tensors are missing", source.missing), ("tensors are left over", left)):
        if items:
            shown = ", ".join(items[:4]) + (", ..." if len(items) > 4 else "")
            raise fail(
                "MI0510", f"{path}: {len(items)} {problem}: {shown}", help="is `names` or `arch` another one?"
            )
    if shapes:
        shown = "; ".join(shapes[:4])
        raise fail("MI0510", f"{path}: {len(shapes)} tensors of another shape: {shown}", help="check `arch`")
    return weights


def _readable(path: str) -> Path:
    """Return the path of a file that can be read.

    Raises:
        MiError: MI0504 if it cannot be read.
    """
    where = may_read(path)
    try:
        where.open("rb").close()
    except OSError as error:
        raise fail(
            "MI0504",
            f"cannot read the model file {path}: {error.strerror}",
            help="paths are relative to the folder of the spec",
        ) from error
    return where


def _damaged(path: Path, why: object) -> MiError:
    return fail(
        "MI0510",
        f"{path} is damaged or not of the format its name says: {why}",
        help="download the file again, or give it the ending of what it is",
    )


def _json(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tensor entries of a JSON checkpoint, and the configuration fields that it states."""
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from error
    if not isinstance(whole, dict):
        raise _damaged(path, "it holds no record of tensors")
    parts = {"shape", "dtype", "data"}
    entries = {k: v for k, v in whole.items() if isinstance(v, dict) and v.keys() >= parts}
    other = [name for name in whole if name not in entries and name != "config"]
    if other:
        raise _damaged(path, f"`{other[0]}` is not {{shape, dtype, data}}")
    stated = whole.get("config")
    heads = stated.get("n_head") if isinstance(stated, dict) else None
    return entries, {"heads": heads} if isinstance(heads, int) else {}


def _shapes_of(path: Path) -> tuple[Shapes, dict[str, Any]] | None:
    """Read names and shapes without torch, and what else the file says; None for a pickled file."""
    if path.suffix == ".json":
        entries, said = _json(path)
        return {name: tuple(entry["shape"]) for name, entry in entries.items()}, said
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="np") as file:
                return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}, {}  # noqa: SIM118
        except SafetensorError as error:
            raise _damaged(path, error) from error
    return None


def _read(path: Path, inside: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors of a file, and what else it says of the architecture."""
    if path.suffix == ".json":
        entries, said = _json(path)
        return {name: _decode(path, name, entry) for name, entry in entries.items()}, said
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path)), {}
        except SafetensorError as error:
            raise _damaged(path, error) from error
    return _unpickle(path, inside), {}


def _decode(path: Path, name: str, entry: Mapping[str, Any]) -> Tensor:
    """Decode one tensor of a JSON checkpoint, base64 of little-endian numbers."""
    import numpy as np
    import torch

    try:
        data = base64.b64decode(entry["data"], validate=True)
        dtype = np.dtype(str(entry["dtype"]).removeprefix("torch.")).newbyteorder("<")
        values = np.frombuffer(data, dtype).reshape(entry["shape"])
    except (binascii.Error, TypeError, ValueError) as error:
        raise _damaged(path, f"{name}: {error}") from error
    return torch.from_numpy(values.astype(values.dtype.newbyteorder("=")))


def _unpickle(path: Path, inside: str) -> dict[str, Tensor]:
    """Read a `.pt` file with torch's restricted unpickler, which builds tensors and nothing else.

    Raises:
        MiError: MI0508 if the file asks for more, MI0510 if it is damaged or holds no state dict.
    """
    import torch

    check_archive(path)
    try:
        whole = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported global" in str(error) or "Unsupported operand" in str(error):
            raise fail(
                "MI0508",
                f"{path} holds Python objects that would run code when loaded",
                help="save its tensors alone: safetensors.torch.save_file(model.state_dict(), ...)",
            ) from error
        raise _damaged(path, str(error).splitlines()[0]) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, MemoryError) as error:
        raise _damaged(path, str(error).splitlines()[0] if str(error) else "it ends early") from error
    if inside:
        if not isinstance(whole, dict) or inside not in whole:
            keys = ", ".join(map(str, whole)) if isinstance(whole, dict) else "no keys"
            raise fail("MI0510", f"{path} has nothing under `{inside}`", help=f"it has {keys[:200]}")
        whole = whole[inside]
    if not isinstance(whole, dict):
        raise _damaged(path, f"it holds a {type(whole).__name__}, not a dictionary of tensors")
    other = [str(name) for name, value in whole.items() if not isinstance(value, torch.Tensor)]
    if other:
        nested = [str(name) for name, value in whole.items() if isinstance(value, dict) and _tensors(value)]
        hint = f'say inside: "{nested[0]}"' if nested else "keep the state dict alone in the file"
        raise fail("MI0510", f"{path}: `{other[0]}` is not a tensor", help=hint)
    return whole


def _tensors(record: Mapping[str, Any]) -> bool:
    import torch

    return any(isinstance(value, torch.Tensor) for value in record.values())
