"""midsl's worker: a whole sweep from its spec, with what is done once told apart.

``python -m tests.bench.ours FOLDER WORKLOAD``: prints JSON as the peers' workers do, with `load` (the model
built and exported), `plan` (spec to chunks), `run`, FLOPs counted, and the product rate of the same minute.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from midsl.plan.driver import Execution, compile_spec
from midsl.plan.speed import flops_per_second

HERE = Path(__file__).parent


def work(workload: str, params: dict[str, str]) -> dict[str, Any]:
    """Run a workload twice; the second time, with its model at hand, is timed, and the first one told."""
    began = time.process_time()
    compiled = compile_spec(HERE / f"{workload}.mi", params)
    first = Execution(compiled)
    first.load()
    load = time.process_time() - began
    began = time.process_time()
    first.run(session=compiled.session())
    cold = time.process_time() - began
    again = Execution(compiled)
    again.loaded = first.loaded
    began = time.process_time()
    session = compiled.session()
    for step in compiled.plan.runs:
        session.predict(step)
    plan = time.process_time() - began
    began = time.process_time()
    again.run(session=session)
    spent = time.process_time() - began
    table = next(t for s in again.stages for t in s.tables)
    return {
        "load": load,
        "cold": cold,
        "plan": plan,
        "run": spent,
        "total": plan + spent,
        "flops": again.totals.flops,
        "rate": flops_per_second(),
        "values": {i: float(v) for i, v in enumerate(table.value)},
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    _, name, *pairs = sys.argv
    given = dict(p.split("=", 1) for p in pairs)
    sys.stdout.write(json.dumps(work(name, given) | {"version": f"torch {torch.__version__}"}) + "\n")
