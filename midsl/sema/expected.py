"""Operands that must be of one kind: truth values, sites."""

from __future__ import annotations

from midsl.diagnostics.model import fail
from midsl.sema.values import ConstV, SitesV, SiteV, TensorV, Value
from midsl.source import Span


def need_truth(value: ConstV, span: Span) -> None:
    """Refuse a literal that is no truth value."""
    if not isinstance(value.value, bool):
        help = "compare it with something: `x > 0`"
        raise fail("MI0301", "a truth value is needed", span, label=f"this is a {value.kind}", help=help)


def need_bool(
    tensor: TensorV, span: Span, what: str = "a truth value is needed", such: str = "x > 0"
) -> None:
    """Refuse a tensor that holds no truth values."""
    if tensor.type.kind != "bool":
        raise fail(
            "MI0301",
            what,
            span,
            label=f"this is {tensor.type}",
            help=f"compare it with something: `{such}`",
        )


def sites_of(value: Value, span: Span) -> tuple[SiteV, ...]:
    """The sites that one side of `|` joins."""
    if isinstance(value, SiteV):
        return (value,)
    if isinstance(value, SitesV):
        return value.members
    raise fail(
        "MI0410",
        "`|` joins sites",
        span,
        label=f"this is a {value.kind}",
        help="write sites on both sides: `m.embed | m.blocks[0].mlp_out`; conditions join with `or`",
    )
