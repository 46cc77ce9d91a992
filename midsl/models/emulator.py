"""Emulators: models of states. What one takes is a row of numbers, and so is what it gives: the state that
comes next. There are no tokens; a run writes each state where the token table would be looked up.

`emulator` is a small residual MLP with random weights, to train in a spec; `linear_emulator` has a matrix
that the spec gives, so that what its rollouts do is known in closed form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args
from uuid import uuid4

from midsl.diagnostics.model import fail
from midsl.models.facts import Facts

if TYPE_CHECKING:
    from torch import nn

    from midsl.models.loaded import LoadedModel

Output = Literal["next", "delta"]
"""Whether a model gives the next state, or what is added to the state."""
Act = Literal["gelu", "gelu_tanh", "relu", "silu", "tanh"]
DOC = "compare with the arguments that `midsl doc std.models` lists"


def describe_emulator(
    *,
    d_state: int,
    d_model: int = 32,
    d_mlp: int = 64,
    layers: int = 2,
    act: str = "gelu_tanh",
    output: str = "next",
    seed: int = 0,
) -> Facts:
    """Return the facts of `emulator` with these arguments; raises as it does."""
    sizes = {"d_state": d_state, "d_model": d_model, "d_mlp": d_mlp, "layer": layers}
    for name, n in sizes.items():
        _need(type(n) is int and 1 <= n <= 10_000, f"{name} is {n!r}, not a number from 1 to 10_000")
    _need(act in get_args(Act), f"act {act!r} is none of {', '.join(get_args(Act))}")
    return Facts("emulator", {**sizes, "act": act, "output": _output(output)}, sizes)


def emulator(
    *,
    d_state: int,
    d_model: int = 32,
    d_mlp: int = 64,
    layers: int = 2,
    act: str = "gelu_tanh",
    output: str = "next",
    seed: int = 0,
) -> LoadedModel:
    """Build an emulator with random weights: a linear map in, residual MLPs, a linear map out.

    Args:
        d_state: how many numbers a state has.
        output: "next", the next state, or "delta", what is added to the state.
        seed: draws the weights.

    Raises:
        MiError: MI0509 for a size below 1, or an unknown `act` or `output`.
    """
    import torch

    from midsl.models.stepper import Residual

    arguments = {"d_state": d_state, "d_model": d_model, "d_mlp": d_mlp, "layers": layers}
    facts = describe_emulator(**arguments, act=act, output=output, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = Residual(d_state, d_model, d_mlp, layers, act)
    return _loaded(facts, module, "model.blocks")


def describe_linear(*, matrix: Sequence[Sequence[float]], output: str = "next") -> Facts:
    """Return the facts of `linear_emulator` with these arguments; raises as it does."""
    rows = [list(r) if isinstance(r, (list, tuple)) else [] for r in matrix]
    wide = {len(r) for r in rows}
    numbers = all(type(x) in (int, float) for r in rows for x in r)
    _need(len(wide) == 1 and wide != {0} and numbers, "`matrix` is a list of rows, of equally many numbers")
    d_state = wide.pop()
    check_shapes(d_state, len(rows))
    sizes = {"d_state": d_state, "d_model": d_state, "layer": 1}
    return Facts("emulator", {"d_state": d_state, "linear": True, "output": _output(output)}, sizes)


def linear_emulator(*, matrix: Sequence[Sequence[float]], output: str = "next") -> LoadedModel:
    """Build the emulator of a linear system: the state that comes next is the matrix times the state.

    Args:
        matrix: its rows, as many as each has numbers; with `output` "delta" that product is added to the
            state.

    Raises:
        MiError: MI0509 if it is no matrix of numbers, MI0517 if it is not square.
    """
    import torch

    from midsl.models.stepper import Linear

    facts = describe_linear(matrix=matrix, output=output)
    return _loaded(facts, Linear(torch.tensor([[float(x) for x in r] for r in matrix])), "model.blocks")


def given_emulator(module: nn.Module, d_state: int, output: str = "next") -> LoadedModel:
    """Wrap a module of one's own, to hand over as `bind` or to return from an `extern fn`.

    Args:
        module: ``forward(state [..., d_state])`` returns the next state of the same shape (with `output`
            "delta", what is added to it); what stands along the other axes must not meet in it.

    Raises:
        MiError: MI0509 if it cannot be called so, MI0517 if it gives another shape than it takes.
    """
    import torch

    from midsl.models.given import shared
    from midsl.models.loaded import find_blocks

    _need(type(d_state) is int and d_state > 0, f"d_state is {d_state!r}, not a number from 1 on")
    own = shared(module).eval()
    first = next(own.parameters(), torch.zeros(()))
    try:
        with torch.no_grad():
            made = own(torch.zeros(2, 1, d_state, dtype=first.dtype))
        shape = tuple(made.shape)
    except Exception as error:  # whatever somebody's module raises
        raise fail(
            "MI0509",
            f"{type(module).__name__} gives no state for a state of {d_state} numbers: {error}",
            help="it must map states [..., d_state] to states of the same shape",
        ) from error
    check_shapes(d_state, shape[-1] if shape[:-1] == (2, 1) else -1)
    blocks = find_blocks(own, None)
    sizes = {"d_state": d_state}
    if blocks is not None:
        sizes["layer"] = len(own.get_submodule(blocks))  # type: ignore[arg-type]
    config: dict[str, Any] = {
        "module": type(own).__qualname__,
        "apart": uuid4().hex,
        "output": _output(output),
    }
    return _loaded(Facts("given", config, sizes), own, f"model.{blocks}" if blocks else None)


def check_shapes(taken: int, given: int) -> None:
    """Refuse a model that does not give as many numbers as it takes (MI0517)."""
    if taken == given:
        return
    what = f"{given} numbers" if given >= 0 else "something of another shape"
    raise fail(
        "MI0517",
        f"no emulator: for a state of {taken} numbers it gives {what}",
        help="what it gives is what it takes at the next step: both have one shape",
    )


def _loaded(facts: Facts, module: nn.Module, blocks: str | None) -> LoadedModel:
    from midsl.models.loaded import loaded
    from midsl.models.stepper import Stepper

    forward = Stepper(module, facts.sizes["d_state"], facts.config["output"] == "delta")
    return loaded(facts, module, forward, None, blocks, None)


def _output(output: str) -> str:
    _need(output in get_args(Output), f"output {output!r} is none of {', '.join(get_args(Output))}")
    return output


def _need(condition: bool, message: str) -> None:
    if not condition:
        raise fail("MI0509", f"an emulator: {message}", help=DOC)
