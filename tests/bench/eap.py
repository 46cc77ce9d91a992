"""EAP of all edges against other packages' code: ``python -m tests.bench.eap --peer PYTHON --rounds 3``.

Each round runs every implementation once, one after the other, on one thread; the table has medians of CPU
seconds, with the model loaded and one pass before. PYTHON is that of an environment with TransformerLens 2,
circuitkit and auto-circuit. Scores of two edges are printed, which are the same.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import click

from tests.bench.run import HERE, worker, write_inputs


@click.command()
@click.option("--peer", "python", required=True, help="The Python that has the packages.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--implementation", "names", multiple=True, default=("midsl", "eap_ig", "auto_circuit"))
def main(python: str, rounds: int, names: tuple[str, ...]) -> None:
    """Time EAP and print a table."""
    found: dict[str, list[dict[str, Any]]] = {n: [] for n in names}
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder) / "eap"
        write_inputs(inputs, "eap", {})
        commands = {n: [python, str(HERE / "peers" / "eap.py"), str(inputs), n] for n in names}
        commands["midsl"] = [sys.executable, "-m", "tests.bench.ours", "eap", "layers=12"]
        for _ in range(rounds):
            for name in names:
                one = worker(commands[name])
                found[name].append(one)
                said = one.get("failed") or f"{one['total']:.2f} s {one['values'] if name != 'midsl' else ''}"
                click.echo(f"{name}: {said}, load {os.getloadavg()[0]:.1f}", err=True)
    for name, rows in found.items():
        times = [r["total"] for r in rows if "total" in r]
        if times:
            click.echo(f"| {name} | {median(times):.2f} s | {min(times):.2f} to {max(times):.2f} |")


if __name__ == "__main__":
    main()
