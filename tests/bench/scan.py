"""A million tokens through 16 thousand features: ``python -m tests.bench.scan [features] [tokens]``.

Features are as drawn, of stories260k's stream, and the text is Tiny Shakespeare, again
and again. What is told:
time in all and of its parts, the most memory that the process held, and how many rows came of it.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from midsl.plan.driver import compile_spec
from midsl.plan.record import land_run

DATA = Path(__file__).parents[3] / "shared" / "data"
STORIES, TEXT = DATA / "stories260k", DATA / "tinyshakespeare" / "input.txt"


def peak_mb() -> int:
    """The most memory that this process held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000


def measure(features: int, tokens: int) -> dict[str, object]:
    """Run the spec into a store of its own."""
    source = TEXT.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        whole = source * (1 + tokens * 3 // len(source))  # there are 1.6 letters of it in a token
        text.write_text(whole[: int(tokens * 1.61)], encoding="utf-8")
        params = {
            "bin": str(STORIES / "stories260K.bin"),
            "tokenizer": str(STORIES / "tok512.bin"),
            "text": str(text),
            "d_sae": str(features),
        }
        began, cpu = time.perf_counter(), time.process_time()
        compiled = compile_spec(Path(__file__).with_suffix(".mi"), params)
        part = compiled.binder.part(next(s.run.data for s in compiled.plan.runs))
        ready, bound = time.process_time() - cpu, peak_mb()
        done = land_run(compiled, Path(folder) / "store", params, [])
        cells = [c for s in done.execution.stages for c in s.cells if c.kind == "run"]
        tables = [t for s in done.execution.stages for t in s.tables]
        return {
            "features": features,
            "tokens": int(part.lengths.sum()),
            "wall_s": round(time.perf_counter() - began, 1),
            "cpu_s": round(time.process_time() - cpu, 1),
            "cpu_before_s": round(ready, 1),
            "run_cpu_s": round(sum(c.cpu_seconds for c in cells), 1),
            "run_wall_s": round(sum(c.seconds for c in cells), 1),
            "kept_mb": sum(c.bytes for c in cells) // 1_000_000,
            "peak_before_mb": bound,
            "peak_mb": peak_mb(),
            "rows": sum(map(len, tables)),
        }


if __name__ == "__main__":
    sizes = [int(a.replace("_", "")) for a in sys.argv[1:]]
    print(json.dumps(measure(*(sizes + [16384, 1_000_000][len(sizes) :]))))
