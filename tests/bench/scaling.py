"""How the cost of a sweep grows with its sizes: ``python -m tests.bench.scaling`` prints a table.

Counts are those of `explain`, so that nothing of them depends on the machine; with ``--time`` each size is
run as well, on one thread, and CPU seconds of planning and running are shown.
"""

from __future__ import annotations

from pathlib import Path

import click

from midsl.plan.driver import compile_spec
from midsl.plan.explain import explain
from tests.bench.ours import work

HERE = Path(__file__).parent
SMALL = {"layers": 4, "heads": 4, "width": 64, "n": 4, "length": 16}
LARGE = {"layers": 12, "heads": 12, "width": 768, "n": 8, "length": 16}
AXES: dict[str, tuple[str, tuple[int, ...]]] = {
    "n": ("w1", (4, 8, 16)),
    "length": ("w6", (8, 16, 32)),
    "layers": ("w2last", (6, 12, 24)),
    "swept": ("w5", (64, 128, 256)),
    "width": ("w1", (384, 768)),
}
"""What is varied, in which workload, and to which values at full size."""


def flops(workload: str, sizes: dict[str, int]) -> int:
    """FLOPs of a plan: the most that it may cost."""
    compiled = compile_spec(HERE / f"{workload}.mi", {k: str(v) for k, v in sizes.items()})
    return explain(compiled).optimised.flops


@click.command()
@click.option("--time", "timed", is_flag=True, help="Run each size, too.")
def main(timed: bool) -> None:
    """Print FLOPs, and CPU seconds, as one size after the other grows."""
    for axis, (workload, values) in AXES.items():
        for value in values:
            sizes = {**LARGE, axis: value}
            line = f"{workload:7} {axis:7} {value:5}"
            if timed:
                found = work(workload, {k: str(v) for k, v in sizes.items()})
                rate = found["flops"] / found["run"] / 1e9
                line += f"  {found['flops'] / 1e9:9.1f} GFLOP  plan {found['plan']:.2f} s"
                line += f"  run {found['run']:.2f} s  {rate:.0f} GF/s"
            else:
                line += f"  {flops(workload, sizes) / 1e9:9.1f} GFLOP at most"
            click.echo(line)


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    main()
