"""Times the fitting of sparse autoencoders: ``python -m tests.bench.sae --peer saelens=PYTHON --peer ..``.

The same model, site, start, rate, batch and number of tokens for all, each token once, on one thread, in CPU
seconds; activations are included, loading the model and drawing the start are not. Workers take turns. What
each ends with is judged on the same rows: the share of variance that is not explained, and features on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch

from midsl.fit.draw import draw_params
from midsl.ir import nodes as ir
from midsl.plan.driver import compile_spec
from midsl.plan.fits import Fitter, fitted_path
from tests.bench.peers.sae import HELD, activations, judged

HERE = Path(__file__).parent
CELLS: dict[str, dict[str, Any]] = {
    "64x16": {"width": 64, "heads": 4, "wide": 16, "k": 16, "scale": 0.1}
    | {"threshold": 1.3, "l0": 1e-2, "steps": 160, "lr": 3e-3},
    "768x8": {"width": 768, "heads": 12, "wide": 8, "k": 32, "scale": 0.01}
    | {"threshold": 0.16, "l0": 1e-4, "steps": 16, "lr": 2e-3},
}
AIM = {"64x16": 16, "768x8": 9}
"""The L0 at which dictionary_learning prices a JumpReLU code, for curves that are alike."""
BATCH, LENGTH, LAYER = 2048, 128, 1


def params_of(cell: str, kind: str) -> dict[str, str]:
    c = CELLS[cell]
    rows = c["steps"] * BATCH // LENGTH
    return {n: str(v) for n, v in {**c, "rows": rows, "batch": BATCH, "length": LENGTH, "kind": kind}.items()}


def ours(cell: str, kind: str, folder: Path | None = None) -> dict[str, Any]:
    """Fit with midsl; into `folder` goes what the peers need."""
    compiled = compile_spec(HERE / "sae.mi", params_of(cell, kind))
    ((_, fit),) = compiled.program.fits
    assert isinstance(fit, ir.Fit)
    binder = compiled.binder
    (read,) = fit.reads
    assert isinstance(read, ir.Read) and isinstance(read.run.data, ir.Part)
    part = binder.part(read.run.data)
    tokens = torch.from_numpy(part.tokens).long()
    binder.engine(read.run.model)
    module: Any = binder.loaded(read.run.model).module
    began = time.process_time()
    start = draw_params(fit.params)
    drawing = time.process_time() - began
    if folder is not None:
        module.save_pretrained(folder / "model")
        torch.save({"tokens": tokens, "start": start}, folder / "inputs.pt")
        return {}
    assert not fitted_path(binder, fit).exists()
    began = time.process_time()
    tensors = Fitter()(binder, fit)
    spent = time.process_time() - began - drawing
    x = activations(module, tokens[:HELD], LAYER)
    t = tensors
    if kind == "topk":
        read_of = ((x - t["b"]) @ t["enc"].T + t["b_enc"]).relu()
        top = read_of.topk(CELLS[cell]["k"], dim=-1)
        code = torch.zeros_like(read_of).scatter_(-1, top.indices, top.values)
    else:
        read_of = x @ t["enc"].T + t["b_enc"]
        code = read_of.relu() * (read_of > CELLS[cell]["threshold"] * t["grown"].exp())
    return {"seconds": spent, **judged(x, code, code @ t["dec"] + t["b"])}


def worker(command: list[str]) -> dict[str, Any]:
    """One worker's answer; {"failed": why} where it has none."""
    with tempfile.TemporaryDirectory() as cache:
        own = {
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "MIDSL_CACHE_DIR": cache,
            "WANDB_MODE": "disabled",
        }
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | own, check=False)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no output"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--cell", "cells", multiple=True, default=tuple(CELLS), type=click.Choice(tuple(CELLS)))
@click.option("--kind", "kinds", multiple=True, default=("topk", "jumprelu"))
@click.option("--peer", "peers", multiple=True, metavar="NAME=PYTHON", help="saelens, saelens_sparse, ..")
@click.option("--out", type=click.Path(path_type=Path))
def main(
    rounds: int, cells: tuple[str, ...], kinds: tuple[str, ...], peers: tuple[str, ...], out: Path | None
) -> None:
    """Time the fits and print a table."""
    pythons = dict(p.split("=", 1) for p in peers)
    results: dict[str, dict[str, list[dict[str, Any]]]] = {}
    with tempfile.TemporaryDirectory() as place:
        for cell in cells:
            folder = Path(place) / cell
            folder.mkdir()
            ours(cell, "topk", folder)
            c = CELLS[cell]
            settings = {
                **c, "batch": BATCH, "layer": LAYER, "ramp": 0.05, "target": AIM[cell],
            }  # fmt: skip
            for kind in kinds:
                (folder / f"{kind}.json").write_text(json.dumps(settings))
                by = results.setdefault(f"{cell} {kind}", {})
                for _ in range(rounds):
                    mine = worker([sys.executable, "-m", "tests.bench.sae_worker", cell, kind])
                    by.setdefault("midsl", []).append(mine)
                    for peer, python in pythons.items():
                        if peer == "saelens_sparse" and kind != "topk":
                            continue
                        script = str(HERE / "peers" / "sae.py")
                        by.setdefault(peer, []).append(worker([python, script, str(folder), peer, kind]))
                click.echo("\n".join(table(cell, kind, by)))
    if out is not None:
        out.write_text(json.dumps(results, indent=1))


def table(cell: str, kind: str, by: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Tokens per CPU-second of each, how many times slower than midsl, and how well it explains."""
    tokens = CELLS[cell]["steps"] * BATCH
    lines = []
    own = median(m.get("seconds", float("nan")) for m in by["midsl"])
    for who, found in by.items():
        failed = [f["failed"] for f in found if "failed" in f]
        if failed:
            lines.append(f"{cell} {kind:8} {who:20} failed: {failed[0]}")
            continue
        spent, last = median(f["seconds"] for f in found), found[-1]
        lines.append(
            f"{cell} {kind:8} {who:20} {tokens / spent:9.0f} tokens/s {spent / own:6.2f}x"
            f"   FVU {last['fvu']:.4f}  error {last['error']:.4g}  L0 {last['l0']:.1f}"
        )
    return lines


if __name__ == "__main__":
    main()
