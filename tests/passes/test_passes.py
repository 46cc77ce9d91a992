"""Each pass on a small spec: the IR it leaves and what it says of itself, as text in `<pass>.txt`.

A file holds the spec, a line `---`, and the golden text: what the pass says, the IR before, the IR after.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from midsl.ir.program import Program
from midsl.ir.text import print_program
from midsl.ir.verify import verify
from midsl.passes.base import Outcome
from midsl.passes.pipeline import OPTIONAL, PASSES, REQUIRED, optimise
from midsl.sema.check import check_source
from midsl.sema.filefacts import FileFacts
from midsl.source import SourceFile
from tests.conftest import Golden

HERE = Path(__file__).parent
NAMES = [name for name, _ in PASSES]


def spec(name: str) -> str:
    """The spec in front of a golden file."""
    return (HERE / f"{name}.txt").read_text(encoding="utf-8").partition("---\n")[0]


def before(name: str) -> Program:
    """The program of a pass's spec, after the passes in front of it."""
    program = check_source(SourceFile(f"{name}.mi", spec(name)), FileFacts()).require()
    for other, run in PASSES:
        if other == name:
            break
        program = run(program, FileFacts(), Outcome(other))
    return program


def shown(program: Program) -> str:
    """The IR as text, without the many settings of a toy model."""
    return re.sub(r" args=\(\(.*\)\)(?= : (Model|Data))", "", print_program(program))


@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str, golden: Golden) -> None:
    program, outcome = before(name), Outcome(name)
    done = dict(PASSES)[name](program, FileFacts(), outcome)
    verify(done)
    said = f"{outcome.name}: {outcome.hits} hits; {outcome.said}\n"
    said += "".join(f"vetoed: {v}\n" for v in sorted(set(outcome.vetoes)))
    old, new = shown(program), shown(done)
    text = f"{said}\nbefore\n{old}\nafter\n" + ("the same\n" if new == old else new)
    golden(HERE / f"{name}.txt", f"{spec(name)}---\n{text}")


@pytest.mark.parametrize("name", NAMES)
def test_each_has_hits(name: str) -> None:
    outcome = Outcome(name)
    dict(PASSES)[name](before(name), FileFacts(), outcome)
    assert outcome.hits > 0, "the example shows the pass at work"
    assert outcome.said


@pytest.mark.parametrize("name", NAMES)
def test_twice_is_once(name: str) -> None:
    run = dict(PASSES)[name]
    once = run(before(name), FileFacts(), Outcome(name))
    assert print_program(run(once, FileFacts(), Outcome(name))) == print_program(once)


def test_required_passes_cannot_be_switched_off() -> None:
    program = check_source(SourceFile("x.mi", spec("expand_sites")), FileFacts()).require()
    done = optimise(program, FileFacts(), [*REQUIRED, *OPTIONAL])
    assert [o.name for o in done.outcomes] == list(REQUIRED)
    assert not done.schedule.fuse and not done.schedule.batch


@pytest.mark.parametrize("off", OPTIONAL)
def test_each_can_be_switched_off_alone(off: str) -> None:
    program = check_source(SourceFile("x.mi", spec("push_selects")), FileFacts()).require()
    done = optimise(program, FileFacts(), [off])
    assert [o.name for o in done.outcomes] == [n for n in NAMES if n != off]
    assert done.schedule.fuse == (off != "fuse_captures")
    assert done.schedule.batch == (off != "batch_sweeps")


def test_a_duplicate_in_a_sweep_is_refused() -> None:
    from midsl.diagnostics.model import MiError

    text = spec("expand_sites").replace("m.blocks[*].attn.z[head: *], k", "z | z, k")
    text = text.replace("experiment e", "site z = m.blocks[*].attn.z[head: *]\nexperiment e")
    program = check_source(SourceFile("x.mi", text), FileFacts()).require()
    with pytest.raises(MiError) as caught:
        optimise(program, FileFacts())
    assert caught.value.diagnostics[0].code == "MI0405"
