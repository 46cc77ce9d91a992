"""The text form of the IR: one line per node, numbered, children by number.

%0 = model midsl.models.toy:toy layers=2
%3 = read %2 attn.z[layer=*, head=*] : Float[layer, head, batch, pos, d_head]
"""

from __future__ import annotations

from midsl.ir import nodes as ir
from midsl.ir.base import content_of
from midsl.ir.program import Program


def print_program(program: Program) -> str:
    """Print a program: every node once, in an order in which children come first."""
    numbers: dict[str, int] = {}
    lines: list[str] = []
    for x in program.experiments:
        lines.append(f"experiment {x.name}")
        for root in (*(v for _, v in x.lets), *x.sinks):
            for node in ir.walk(root):
                if node.digest in numbers:
                    continue
                numbers[node.digest] = len(numbers)
                lines.append(f"  %{numbers[node.digest]} = {_node(node, numbers)}")
        for name, value in x.lets:
            lines.append(f"  let {name} = %{numbers[value.digest]}")
    return "\n".join(lines) + "\n"


def _node(node: ir.Node, numbers: dict[str, int]) -> str:
    parts = [type(node).__name__.lower()]
    for name in content_of(type(node)):
        value = getattr(node, name)
        if value in ((), None, "") or (name == "origin" and value == 0):
            continue
        parts.append(f"{name}={_value(value, numbers)}")
    return " ".join(parts) + f" : {node.type}"


def _value(value: object, numbers: dict[str, int]) -> str:
    if isinstance(value, ir.Node):
        known = numbers.get(value.digest)
        return f"%{known}" if known is not None else f"<{type(value).__name__.lower()} {value.digest[:8]}>"
    if isinstance(value, tuple):
        return "(" + ", ".join(_value(v, numbers) for v in value) + ")"
    if isinstance(value, str):
        return value if value.replace(".", "").replace("_", "").replace(":", "").isalnum() else repr(value)
    return str(value)
