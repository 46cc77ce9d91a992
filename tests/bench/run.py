"""Times midsl against its peers: ``python -m tests.bench.run --rounds 3 --points 6 --out FILE.json``.

Everything runs on one thread and is measured in CPU seconds. A round runs every implementation of a workload
once, one after the other, so that what else the machine does falls on all alike; the table shows medians over
rounds. Peers run some of the interventions, evenly spread, and their sweep is what all would take; midsl runs
all. Each implementation's values must be those of the plain hooks, to 1e-5.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np

from midsl.ir import nodes as ir
from midsl.plan.driver import Compiled

HERE = Path(__file__).parent
WORKLOADS = ("w1", "w2", "w2last", "w3", "w4", "w5", "w6")
PEERS = {"hooks": "hooks.py", "tl": "tl.py", "nnsight": "nns.py", "pyvene": "pyv.py"}
LACKING = {(peer, w) for peer in ("nnsight", "pyvene") for w in ("w3", "w4", "w5")}
"""Peers for which a workload is not written."""
TOLERANCE = 1e-5
DIFFERS = "DIFFERS"


def write_inputs(folder: Path, spec: str, params: dict[str, str]) -> None:
    """The model and the rows of the specs, as files that every worker reads."""
    from midsl.plan.driver import compile_spec

    folder.mkdir()
    compiled = compile_spec(HERE / f"{spec}.mi", params)
    ((_, model),) = compiled.program.models
    ((_, data),) = compiled.program.datas
    compiled.binder.loaded(model).module.save_pretrained(folder / "model")  # type: ignore[operator]
    rows = compiled.binder.dataset(data)
    more = dictionary(compiled) if spec == "w5" else {}
    clean, corrupt = rows.part("clean", ""), rows.part("corrupt", "")
    np.savez(
        folder / "rows.npz",
        clean=clean.tokens,
        corrupt=corrupt.tokens,
        answer=np.asarray(clean.columns["answer"].values),
        wrong=np.asarray(clean.columns["wrong"].values),
        **more,
    )


def dictionary(compiled: Compiled) -> dict[str, Any]:
    """w5's dictionary as arrays: what its parameters come to, and the features that are set to zero."""
    from midsl.fit.draw import draw_params
    from midsl.plan.driver import Execution

    (node,) = (n for n in ir.walk(*compiled.program.roots) if isinstance(n, ir.Params))
    drawn = draw_params(node)
    done = Execution(compiled)
    done.run()
    tables = {t.report: t for s in done.stages for t in s.tables}
    return {
        "directions": drawn["dec"].numpy(),
        "bias": 20 * np.minimum(drawn["b"].numpy(), np.float32(1.45)),
        "centre": tables["centre"].value.astype(np.float32),
        "features": np.asarray(tables["effect"].keys["f"]),
        "k": 32,
        "layer": 6,
    }


def inputs_of(workload: str) -> str:
    """The workload whose inputs this one shares."""
    return workload if workload in ("w4", "w5") else "w1"


def worker(command: list[str]) -> dict[str, Any]:
    """One worker's answer; {"failed": why} where it has none."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no output"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def differences(found: dict[str, Any], truth: dict[str, float]) -> float:
    """The largest difference from the plain hooks, over the interventions that both ran."""
    shared = [i for i in truth if i in found["values"]]
    return max(abs(float(found["values"][i]) - truth[i]) for i in shared)


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--points", default=6, show_default=True, help="Interventions that a peer runs of each sweep.")
@click.option("--workload", "workloads", multiple=True, default=WORKLOADS, type=click.Choice(WORKLOADS))
@click.option(
    "--peer", "peers", multiple=True, metavar="NAME=PYTHON", help="A peer and the Python that has it."
)
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="Parameter of the specs.")
@click.option("--out", type=click.Path(path_type=Path))
def main(
    rounds: int,
    points: int,
    workloads: tuple[str, ...],
    peers: tuple[str, ...],
    params: tuple[str, ...],
    out: Path | None,
) -> None:
    """Time the workloads and print a table."""
    pythons = dict(p.split("=", 1) for p in peers) or {"hooks": sys.executable}
    given = dict(p.split("=", 1) for p in params)
    results: dict[str, dict[str, list[dict[str, Any]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in sorted({inputs_of(w) for w in workloads}):
            write_inputs(Path(folder) / name, name, given)
        for _ in range(rounds):
            for name in workloads:
                inputs = str(Path(folder) / inputs_of(name))
                ours = [sys.executable, "-m", "tests.bench.ours", name, *params]
                results.setdefault(name, {}).setdefault("midsl", []).append(worker(ours))
                for peer, python in pythons.items():
                    if (peer, name) in LACKING:
                        continue
                    for idiom in ("typical", "fast"):
                        script = HERE / "peers" / PEERS[peer]
                        found = worker([python, str(script), inputs, name, idiom, str(points)])
                        results[name].setdefault(f"{peer} {idiom}", []).append(found)
                click.echo(
                    f"{name}: {len(results[name]['midsl'])} rounds, load {os.getloadavg()[0]:.1f}", err=True
                )
    if out is not None:
        out.write_text(json.dumps(results, indent=1))
    lines = [line for name, by in results.items() for line in table(name, by)]
    click.echo("\n".join(lines))
    if any(DIFFERS in line for line in lines):
        raise SystemExit(1)


def table(name: str, by: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The rows of one workload: seconds, how many times midsl's, and how far the values are apart."""
    mine = by["midsl"]
    if any("failed" in m for m in mine):
        return [f"{name}: midsl failed: {mine[0].get('failed')}"]
    own = median(m["total"] for m in mine)
    rate = median(m["flops"] / m["run"] / m["rate"] for m in mine)
    peak = median(m["rate"] for m in mine) / 1e9
    lines = [
        f"{name:7} midsl            {own:8.2f} s  plan {median(m['plan'] for m in mine):.2f}, "
        f"load {median(m['load'] for m in mine):.1f}, first run {median(m['cold'] for m in mine):.2f}; "
        f"{mine[0]['flops'] / 1e9:.0f} GFLOP at {rate:.0%} of {peak:.0f} GF/s"
    ]
    truth = next(
        (r[0]["values"] for k, r in by.items() if k == "hooks typical" and "failed" not in r[0]), None
    )
    for peer, found in by.items():
        if peer == "midsl":
            continue
        if any("failed" in f for f in found):
            lines.append(f"{name:7} {peer:16} failed: {found[0].get('failed')}")
            continue
        spent = median(f["total"] for f in found)
        lines.append(f"{name:7} {peer:16} {spent:8.2f} s  {spent / own:5.1f}x")
    if truth is not None:
        for who, found in by.items():
            if "failed" not in found[0]:
                apart = differences(found[0], truth)
                verdict = "agrees" if apart <= TOLERANCE else DIFFERS
                lines.append(f"{name:7} {who:16} {verdict} with hooks: {apart:.1e}")
    return lines


if __name__ == "__main__":
    main()
