"""Python functions as operations: what an `extern fn` that gives tensors does with them.

The function sees whole float64 (int64, bool) arrays along the axes that its parameters name, rows that do
not count left out, and is called once for each place along all other axes, which is what lifting means. What
it gives must be what its declaration says (MI0707). Calls are kept by what they were given, so that the
fields of one record cost one call: a function must depend on its arguments alone.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from importlib import import_module
from itertools import product
from typing import Any

import numpy as np
import torch

from midsl.diagnostics.model import MiError, fail
from midsl.ops.named import NT, joint_sizes
from midsl.ops.registry import op

Arrays = dict[str, np.ndarray]
DTYPES: dict[str, Any] = {"float": np.float64, "int": np.int64, "bool": np.bool_}
KEPT = 512
"""How many calls are remembered; beyond it they are made again."""
HANDED: dict[str, Callable[..., Any]] = {}
"""Functions that somebody handed over in memory, by reference; a reference stands for one function only."""
_CALLS: OrderedDict[str, Arrays] = OrderedDict()


@op("extern")
def extern(
    *args: NT,
    ref: str,
    params: tuple[Any, ...],
    gives: tuple[Any, ...],
    out: str,
    over: tuple[str, ...],
    mask: NT | None = None,
    **identity: str,
) -> NT:
    """The field `out` of what the function `ref` gives.

    Args:
        args: the operands; those of their axes that no parameter names are lifted over.
        params: (name, value) of each parameter; a value is a literal, ("in", index of the operand, its axes),
            ("list", ..) or ("record", (name, value), ..).
        gives: (field, kind, ((axis, length or None), ..)) of all that comes out; the field is "" for a
            single tensor.
        over: the axes that parameters name.
        mask: Bool along `batch`: which rows count.
        identity: what else tells two calls apart: hashes of code and files.

    Raises:
        MiError: MI0707 if the function fails or gives something else; MI0601 for a gradient through it.
    """
    if any(x.data.requires_grad for x in args):
        name = ref.partition(":")[2]
        raise fail("MI0601", f"not implemented: a gradient through `{name}`, which is Python")
    own = _declared(params, len(args))
    loops = [_without(x, [a for a in x.axes if a in over and a not in own[i]]) for i, x in enumerate(args)]
    sizes = joint_sizes(*loops) if loops else {}
    masked = {a: n for a, n in mask.sizes.items() if a not in over} if mask is not None else {}
    lifted = {a: n for a, n in sizes.items() if a not in over} | masked
    kind, axes = next((k, tuple(a for a, _ in ax)) for f, k, ax in gives if f == out)
    found = []
    for at in product(*(range(n) for n in lifted.values())):
        here = dict(zip(lifted, at, strict=True))
        rows = _rows(mask, here, ref)
        given = [_at(x, here, own[i], rows) for i, x in enumerate(loops)]
        known = {a: n for a, n in sizes.items() if a in over}
        if rows is not None:
            known["batch"] = int(rows.sum())
        made = call(ref, params, given, gives, known)[out]
        found.append(_spread(made, axes, rows))
    if not found:
        raise fail("MI0402", "nothing is swept here")
    data = torch.from_numpy(np.stack(found))
    if kind == "float":
        floats = [x.data.dtype for x in args if x.data.is_floating_point()]
        dtype = floats[0] if floats else torch.float64
        for other in floats[1:]:
            dtype = torch.promote_types(dtype, other)
        data = data.to(dtype)
    return NT(data.reshape([*lifted.values(), *found[0].shape]), (*lifted, *axes))


def _declared(params: tuple[Any, ...], count: int) -> list[tuple[str, ...]]:
    """Of each operand, the axes that its parameter names, in order."""
    axes: list[tuple[str, ...]] = [()] * count

    def look(value: Any) -> None:
        if isinstance(value, tuple) and value and value[0] == "in":
            axes[value[1]] = value[2]
        elif isinstance(value, tuple) and value and value[0] in ("list", "record"):
            for item in value[1:]:
                look(item if value[0] == "list" else item[1])

    for _, value in params:
        look(value)
    return axes


def _without(x: NT, axes: list[str]) -> NT:
    """An operand without axes that another parameter names: it is the same all along them."""
    for a in axes:
        x = NT(x.data.select(x.dim(a), 0), tuple(n for n in x.axes if n != a))
    return x


def _rows(mask: NT | None, at: Mapping[str, int], ref: str) -> np.ndarray | None:
    """Which rows count at a place: Bool [batch]; None if all do."""
    if mask is None:
        return None
    for a, i in at.items():
        if a in mask.axes:
            mask = NT(mask.data.select(mask.dim(a), i), tuple(n for n in mask.axes if n != a))
    keep: np.ndarray = mask.permute_to(tuple(sorted(mask.axes))).data.cpu().numpy()
    if mask.axes == ("batch",):
        return keep
    whole = keep.reshape(len(keep), -1) if "batch" in mask.axes else keep.reshape(1, -1)
    if not (whole.all(1) | ~whole.any(1)).all():
        name = ref.partition(":")[2]
        help = "reduce over positions first, or select those that all rows have"
        raise fail("MI0707", f"`{name}` was given rows of unequal lengths", help=help, exit_code=4)
    return np.asarray(whole.any(1)) if "batch" in mask.axes else None


def _at(x: NT, at: Mapping[str, int], axes: tuple[str, ...], rows: np.ndarray | None) -> np.ndarray:
    """An operand at a place, as an array along the axes of its parameter."""
    for a, i in at.items():
        if a in x.axes:
            x = NT(x.data.select(x.dim(a), i), tuple(n for n in x.axes if n != a))
    missing = [a for a in axes if a not in x.axes]
    if missing:
        raise fail("MI0707", f"a value is one number along {', '.join(missing)}", exit_code=4)
    data = x.permute_to(axes).data.detach().cpu()
    array: np.ndarray = (data.double() if data.is_floating_point() else data).numpy()
    if rows is not None and "batch" in axes:
        array = array.compress(rows, axes.index("batch"))
    return array


def _spread(made: np.ndarray, axes: tuple[str, ...], rows: np.ndarray | None) -> np.ndarray:
    """What came out along `batch`, with rows that do not count again: they hold no number."""
    if rows is None or "batch" not in axes:
        return made
    at = axes.index("batch")
    shape = (*made.shape[:at], len(rows), *made.shape[at + 1 :])
    whole = np.full(shape, np.nan if made.dtype == np.float64 else 0, made.dtype)
    np.moveaxis(whole, at, 0)[rows] = np.moveaxis(made, at, 0)
    return whole


def call(
    ref: str,
    params: tuple[Any, ...],
    given: list[np.ndarray],
    gives: tuple[Any, ...],
    known: Mapping[str, int],
) -> Arrays:
    """Call the function, and check what it gives against its declaration.

    Args:
        given: the operands.
        known: lengths of the axes that operands have.

    Raises:
        MiError: MI0707.
    """
    content = hashlib.blake2b(repr((ref, params, gives)).encode())
    for x in given:
        content.update(repr((x.shape, x.dtype)).encode())
        content.update(np.ascontiguousarray(x).tobytes())
    key = content.hexdigest()
    if key in _CALLS:
        _CALLS.move_to_end(key)
        return _CALLS[key]
    name = ref.partition(":")[2]
    try:
        made = _function(ref)(**{k: _decode(v, given) for k, v in params})
    except MiError:
        raise
    except Exception as err:  # whatever goes wrong in it is told of as its own
        raise fail("MI0707", f"`{name}` failed: {type(err).__name__}: {err}", exit_code=4) from err
    done = _CALLS[key] = _checked(name, made, gives, dict(known))
    while len(_CALLS) > KEPT:
        _CALLS.popitem(last=False)
    return done


def _function(ref: str) -> Callable[..., Any]:
    if ref in HANDED:
        return HANDED[ref]
    module, _, name = ref.partition(":")
    try:
        found: Callable[..., Any] = getattr(import_module(module), name)
    except (ImportError, AttributeError) as err:
        help = "see that the function stands in that module, and what it needs is installed"
        raise fail("MI0707", f"there is no function {ref} ({err})", help=help) from None
    return found


def _decode(value: Any, given: list[np.ndarray]) -> Any:
    if not isinstance(value, tuple):
        return value
    tag, *items = value
    if tag == "in":
        return given[items[0]] if items[1] else given[items[0]].item()
    if tag == "list":
        return [_decode(v, given) for v in items]
    return {k: _decode(v, given) for k, v in items}


def _checked(name: str, made: Any, gives: tuple[Any, ...], known: dict[str, int]) -> Arrays:
    """The fields that the declaration names, each of its kind, with its axes; one name is one length."""
    if gives[0][0] == "":
        made = {"": made}
    wanted = [f for f, _, _ in gives]
    if not isinstance(made, Mapping) or sorted(made) != sorted(wanted):
        got = ", ".join(map(str, made)) if isinstance(made, Mapping) else type(made).__name__
        raise _other(name, f"it gives {got or 'nothing'}, and not a record of {', '.join(wanted)}")
    done: Arrays = {}
    for field, kind, axes in gives:
        said = f"`{field}`" if field else "what it gives"
        array = np.asarray(made[field])
        fits = {"float": "fiu", "int": "iu", "bool": "b"}[kind]
        if array.dtype.kind not in fits:
            raise _other(name, f"{said} is of {array.dtype}, and not {kind.capitalize()}")
        if array.ndim != len(axes):
            names = ", ".join(a for a, _ in axes)
            raise _other(name, f"{said} has {array.ndim} axes, and not {len(axes)} ({names or 'one number'})")
        for (axis, size), length in zip(axes, array.shape, strict=True):
            wants = known.setdefault(axis, length if size is None or axis in known else size)
            if wants != length:
                raise _other(name, f"{said} is {length} long along `{axis}`, and not {wants}")
        done[field] = np.array(array, DTYPES[kind], order="C")
    return done


def _other(name: str, why: str) -> MiError:
    help = "let the function and its declaration say the same"
    return fail("MI0707", f"`{name}` does not give what it says: {why}", help=help, exit_code=4)
