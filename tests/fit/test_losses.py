"""What is kept of how a fit went, and of one that was killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from midsl.store.db import Store
from tests.examples.common import midsl
from tests.fit.common import write

BODY = """
let f = { on: d, steps: 450, batch: 16, optim: adam(lr: 1e-2) }
decomposition sae = topk_sae(at: x, d_sae: 16, k: 2, fit: f)
experiment e { report error = mean(square((run m on d)[sae.error]), over: [batch, pos, d_model]) }
"""


def test_losses_are_a_table_of_the_store(tmp_path: Path) -> None:
    spec = write(tmp_path, BODY)
    done = midsl("run", spec, "--store", tmp_path / "store", "--json")
    assert done.exit_code == 0, done.output
    store = Store(tmp_path / "store")
    asked = "SELECT fit, step, loss FROM losses WHERE run_id = 1 ORDER BY step"
    rows = store.query(asked).rows
    assert {r[0] for r in rows} == {"sae"}
    steps = [r[1] for r in rows]
    assert steps[0] == 0 and steps[-1] == 449 and len(set(steps)) == len(steps) <= 201
    assert rows[-1][2] < rows[0][2] / 2
    # a run that takes the fit from the cache says the same of it
    spec.write_text(spec.read_text().replace("report error", "report one = 1.0\n  report error"))
    assert midsl("run", spec, "--store", tmp_path / "store").exit_code == 0
    assert store.query(asked.replace("run_id = 1", "run_id = 2")).rows == rows


KILLED = """
import os, signal, sys
from pathlib import Path
from midsl.plan import fits
from midsl.plan.driver import Execution, compile_spec
fits.EVERY = 0.0
real, count = fits._Job.advance, []
def dies(job, loss):
    count.append(1)
    if len(count) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    real(job, loss)
fits._Job.advance = dies
Execution(compile_spec(Path(sys.argv[1]))).load()
print(len(count))
"""


@pytest.mark.slow
def test_a_killed_fit_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    spec = write(tmp_path, BODY)

    def fit(cache: str, dies_at: int) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "MIDSL_CACHE_DIR": str(tmp_path / cache)}
        call = [sys.executable, "-c", KILLED, str(spec), str(dies_at)]
        return subprocess.run(call, env=env, capture_output=True, text=True, timeout=120)

    whole = fit("whole", -1)
    assert whole.returncode == 0, whole.stderr
    assert fit("killed", 30).returncode == -signal.SIGKILL
    rest = fit("killed", -1)
    assert rest.returncode == 0 and json.loads(rest.stdout) == 450 - 29, rest.stderr

    def result(cache: str) -> bytes:
        (path,) = (tmp_path / cache / "fitted").glob("*.safetensors")
        tensors = load_file(path)
        return b"".join(tensors[n].numpy().tobytes() for n in sorted(tensors))

    assert result("killed") == result("whole")
