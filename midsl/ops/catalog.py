"""What the type checker knows of each operation; no torch here, so that `check` stays fast.

`rule` says what happens to axes: values are joined by name, then

- ``elementwise``: nothing else;
- ``along_axis``: the attribute `over` names axes that the result keeps (softmax);
- ``drop_axis``: `over` names axes that the result loses (norm, argmax);
- ``contract``: the same with two operands that meet along `over` (dot, kl);
- ``new_axis``: the operands lie side by side along a new axis (stack);
- ``join_axis``: the operands lie one behind the other along the axis `over`, which is as long as both;
- ``declared``: what a declaration or static places say (extern, spread, numbers).

`unit`: "same" is that of the operands, "none" none, "nat" nats. `pad` is what stands in for padding
along `over`, chosen so that padding changes nothing: 0 for sums, -inf where a softmax or a maximum
is taken. A test holds this table and the registry to the same names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Rule = Literal["elementwise", "along_axis", "drop_axis", "contract", "new_axis", "join_axis", "declared"]
Result = Literal["float", "bool", "int", "same"]
UnitRule = Literal["same", "none", "nat"]
INF = float("inf")


@dataclass(frozen=True)
class OpInfo:
    """How an operation is typed.

    Attributes:
        arity: number of operands; None: any number.
        rule: what happens to axes.
        result: kind of the result; "same": as the operands (int only if all are int).
        unit: unit of the result.
        attrs: names of the attributes it takes.
        pad: value that padding is given along `over`; None where there is no `over`.
        takes_mask: whether it sees for itself to what does not count.
    """

    arity: int | None
    rule: Rule = "elementwise"
    result: Result = "float"
    unit: UnitRule = "none"
    attrs: tuple[str, ...] = ()
    pad: float | None = None
    takes_mask: bool = False


def _table() -> dict[str, OpInfo]:
    same: Literal["same"] = "same"
    ops: dict[str, OpInfo] = {}
    for name in ("neg", "abs", "relu"):
        ops[name] = OpInfo(1, result=same, unit=same)
    for name in ("add", "sub", "minimum", "maximum"):
        ops[name] = OpInfo(2, result=same, unit=same)
    for name in ("mul", "mod", "pow"):
        ops[name] = OpInfo(2, result=same)
    ops["div"] = OpInfo(2)
    for name in ("lt", "le", "gt", "ge", "eq", "ne", "and", "or"):
        ops[name] = OpInfo(2, result="bool")
    ops["approx"] = OpInfo(2, result="bool", attrs=("tol",))
    ops["not"] = OpInfo(1, result="bool")
    ops["isfinite"] = OpInfo(1, result="bool")
    for name in ("exp", "log", "sqrt", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"):
        ops[name] = OpInfo(1)
    for name in ("sign", "square"):
        ops[name] = OpInfo(1, result=same)
    ops["clamp"] = OpInfo(1, result=same, unit=same, attrs=("min", "max"))
    ops["stack"] = OpInfo(None, "new_axis", result=same, unit=same, attrs=("axis", "labels"))
    ops["concat"] = OpInfo(2, "join_axis", result=same, unit=same, attrs=("over",))
    ops["where"] = OpInfo(3, result=same, unit=same)

    over = ("over",)
    ops["softmax"] = OpInfo(1, "along_axis", attrs=over, pad=-INF)
    ops["log_softmax"] = OpInfo(1, "along_axis", unit="nat", attrs=over, pad=-INF)
    ops["logsumexp"] = OpInfo(1, "drop_axis", attrs=over, pad=-INF)
    ops["norm"] = OpInfo(1, "drop_axis", unit=same, attrs=over, pad=0.0)
    ops["normalize"] = OpInfo(1, "along_axis", attrs=over, pad=0.0)
    ops["cumsum"] = OpInfo(1, "along_axis", result=same, unit=same, attrs=over, pad=0.0)
    ops["argmax"] = OpInfo(1, "drop_axis", result="int", attrs=over, pad=-INF)
    ops["argmin"] = OpInfo(1, "drop_axis", result="int", attrs=over, pad=INF)
    ops["sort"] = OpInfo(1, "along_axis", result=same, unit=same, attrs=over, pad=INF)
    ops["rank"] = OpInfo(1, "along_axis", result="int", attrs=over, pad=-INF)
    ops["top_mask"] = OpInfo(1, "along_axis", result=same, unit=same, attrs=("k", "over"), pad=-INF)
    ops["group_max"] = OpInfo(1, "along_axis", result=same, unit=same, attrs=("k", "over"))
    ops["count_up"] = OpInfo(0, "declared", result="int", attrs=("axis", "size"))
    ops["lay_out"] = OpInfo(1, "declared", attrs=("over", "places", "axes", "shape"))
    ops["rename"] = OpInfo(1, result=same, unit=same, attrs=("old", "new"))
    ops["stop_gradient"] = OpInfo(1, result=same, unit=same)
    ops["step"] = OpInfo(1, attrs=("width",))
    ops["eigenvectors"] = OpInfo(1, attrs=("over", "into", "k"))
    ops["solve"] = OpInfo(2, attrs=("over", "ridge"))
    ops["put"] = OpInfo(3, result=same, unit=same, attrs=over)
    ops["project"] = OpInfo(2, "along_axis", attrs=over, pad=0.0)
    ops["orthonormal"] = OpInfo(1, attrs=over)
    ops["dot"] = OpInfo(2, "contract", attrs=over, pad=0.0)
    ops["cosine"] = OpInfo(2, "contract", attrs=over, pad=0.0)
    ops["kl"] = OpInfo(2, "contract", unit="nat", attrs=over, pad=-INF)
    ops["js"] = OpInfo(2, "contract", unit="nat", attrs=over, pad=-INF)
    ops["entropy"] = OpInfo(1, "drop_axis", unit="nat", attrs=over, pad=-INF)
    ops["spread"] = OpInfo(1, "declared", result=same, unit=same, attrs=("over", "to", "at"))
    ops["numbers"] = OpInfo(0, "declared", attrs=("values", "axis"))
    ops["lift"] = OpInfo(2, result=same, unit=same)
    scan = ("over", "k", "window", "above", "start", "gives")
    ops["contexts"] = OpInfo(1, "declared", attrs=scan, takes_mask=True)
    ops["around"] = OpInfo(3, "declared", result="int", attrs=("window",))
    ops["top_values"] = OpInfo(1, "declared", result=same, attrs=("k", "over", "gives", "least"))
    ops["extern"] = OpInfo(None, "declared", attrs=("ref", "params", "gives", "out", "over"), takes_mask=True)
    return ops


CATALOG: dict[str, OpInfo] = _table()
"""Every operation an `Apply` node may name."""
