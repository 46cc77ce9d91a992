"""Rollouts of emulators: against a loop over the module that anybody would write, and in closed form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import midsl
from midsl.diagnostics.model import MiError
from midsl.models.emulator import given_emulator
from midsl.plan.driver import Compiled, Execution, compile_spec
from midsl.plan.explain import explain
from midsl.plan.verify import verify

HEAD = """language mi 1
import std.models as models
from std.states import linear_states, states
model m = {model}
data d = linear_states(matrix: [[0.9, 0.1, 0.0], [-0.1, 0.9, 0.0], [0.0, 0.0, 0.5]], n: 5, seed: 2)
data up = states(state: [[1.0, 0.0, 0.5], [2.0, 1.0, 0.0]])
site x = m.blocks[0].resid_post
"""
NET = 'models.emulator(d_state: 3, d_model: 8, d_mlp: 12, layers: 2, output: "{}", seed: 4)'
Cells = dict[tuple[Any, ...], float]


def compiled(tmp_path: Path, body: str, model: str = NET.format("delta")) -> Compiled:
    path = tmp_path / "spec.mi"
    path.write_text(HEAD.format(model=model) + f"experiment e {{\n{body}\n}}\n")
    return compile_spec(path)


def found(spec: Compiled) -> dict[str, Cells]:
    """Each report as cells by their coordinates."""
    execution = Execution(spec)
    execution.run(session=spec.session())
    assert execution.totals.flops == execution.predicted.flops > 0
    assert execution.totals.forwards == execution.predicted.forwards
    return {t.report: cells(t) for s in execution.stages for t in s.tables}


def cells(table: Any) -> Cells:
    keys = [list(k) for k in table.keys.values()]
    rows = list(zip(*keys, strict=True)) if keys else [()]
    return {k: float(v) for k, v in zip(rows, table.value, strict=True)}


def start(spec: Compiled, name: str = "d") -> Tensor:
    """The states of a data set."""
    node = next(n for x, n in spec.program.datas if x == name)
    return torch.from_numpy(spec.binder.dataset(node).sides[""].columns["state"].values).float()


def module_of(spec: Compiled) -> nn.Module:
    return spec.binder.loaded(spec.program.models[0][1]).module


def by_hand(
    module: nn.Module,
    state: Tensor,
    steps: int,
    delta: bool,
    hook: Callable[[int, Tensor], Tensor] | None = None,
) -> Tensor:
    """States [step, batch, d_state], one call after the other; `hook` changes what block 0 gives."""
    made: list[Tensor] = []
    handle = None
    if hook is not None:
        place = module.get_submodule("blocks.0")
        handle = place.register_forward_hook(lambda _, __, out: hook(len(made), out))
    with torch.no_grad():
        for _ in range(steps):
            out = module(state)
            state = state + out if delta else out
            made.append(state)
    if handle is not None:
        handle.remove()
    return torch.stack(made)


def same(mine: Cells, theirs: Tensor) -> None:
    """Cells whose keys end in indices of a tensor, against it."""
    assert len(mine) == theirs.numel()
    for key, value in mine.items():
        assert value == pytest.approx(float(theirs[key]), abs=2e-5)


@pytest.mark.parametrize("output", ["next", "delta"])
def test_states_are_those_of_a_plain_loop(tmp_path: Path, output: str) -> None:
    spec = compiled(
        tmp_path, "let r = run m on d rollout { steps: 6 }\nreport y = r.output", NET.format(output)
    )
    want = by_hand(module_of(spec), start(spec), 6, output == "delta")
    assert float((want[1:] - want[:-1]).abs().max()) > 0.01
    same(found(spec)["y"], want)


def test_a_sweep_of_edits_goes_on_by_itself_at_each_point(tmp_path: Path) -> None:
    spec = compiled(
        tmp_path,
        "let v = mean((run m on up)[x], over: batch)\n"
        "sweep a in [-1.0, 0.0, 0.7]\n"
        "let r = run m on d rollout { steps: 5 } do { x := self + a * v }\n"
        "report y = r.output\nreport inside = r[x]\nreport start = r[m.state]",
    )
    module = module_of(spec)
    kept: list[Tensor] = []
    place = module.get_submodule("blocks.0")
    handle = place.register_forward_hook(lambda _, __, out: kept.append(out.mean(0)))
    with torch.no_grad():
        module(start(spec, "up"))
    handle.remove()
    reports = found(spec)
    for a in (-1.0, 0.0, 0.7):
        inside: list[Tensor] = []

        def hook(step: int, out: Tensor, a: float = a, inside: list[Tensor] = inside) -> Tensor:
            inside.append(out + a * kept[0])
            return inside[-1]

        want = by_hand(module, start(spec), 5, True, hook)
        here = {n: {k[1:]: v for k, v in r.items() if k[0] == a} for n, r in reports.items()}
        same(here["y"], want)
        same(here["inside"], torch.stack(inside))
        same(here["start"], torch.cat([start(spec)[None], want[:-1]]))
    assert verify(spec).agrees


def test_edits_of_some_steps_are_in_force_then(tmp_path: Path) -> None:
    spec = compiled(
        tmp_path,
        "let one = run m on d rollout { steps: 4 } do { x[step: 2] := 0.5 * self }\n"
        "let later = run m on d rollout { steps: 4 } do { x[step: 1..] := 0.5 * self }\n"
        "let some = run m on d rollout { steps: 4 } do { x[step: [0, 3]] := 0.5 * self }\n"
        "report one_is = one.output\nreport later_is = later.output\nreport some_is = some.output",
    )
    reports, module = found(spec), module_of(spec)
    for name, steps in {"one_is": {2}, "later_is": {1, 2, 3}, "some_is": {0, 3}}.items():

        def hook(step: int, out: Tensor, steps: set[int] = steps) -> Tensor:
            return 0.5 * out if step in steps else out

        same(reports[name], by_hand(module, start(spec), 4, True, hook))


def test_a_rollout_is_patched_into_another_step_by_step(tmp_path: Path) -> None:
    spec = compiled(
        tmp_path,
        "let other = run m on d rollout { steps: 3 } do { m.state[d_state: 1] := 0.0 }\n"
        "let r = run m on d rollout { steps: 3 } do { x := other }\n"
        "report y = r.output\nreport held = other[m.state]",
    )
    module, inside = module_of(spec), []
    place = module.get_submodule("blocks.0")
    handle = place.register_forward_hook(lambda _, __, out: inside.append(out))
    state, held = start(spec), []
    with torch.no_grad():
        for _ in range(3):
            state = state.clone()
            state[:, 1] = 0
            held.append(state)
            state = state + module(state)
    handle.remove()
    reports = found(spec)
    same(reports["held"], torch.stack(held))
    same(reports["y"], by_hand(module, start(spec), 3, True, lambda step, out: inside[step]))


def test_along_an_eigenvector_steering_grows_as_its_eigenvalue_does(tmp_path: Path) -> None:
    """x' = A x: a push along v at step 0 is lambda^k v later on; pushes at every step sum up."""
    spec = compiled(
        tmp_path,
        "let v = up.state\n"
        "let base = run m on d rollout { steps: 8 }\n"
        "let e = states(state: [[1.0, 1.0, 0.0]])\n"
        "let w = mean(e.state, over: batch)\n"
        "let once = run m on d rollout { steps: 8 } do { m.state[step: 0] := self + 0.5 * w }\n"
        "let each = run m on d rollout { steps: 8 } do { m.output := self + 0.5 * w }\n"
        "report once_is = mean(once.output - base.output, over: batch)\n"
        "report each_is = mean(each.output - base.output, over: batch)",
        "models.linear_emulator(matrix: [[1.0, 0.2, 0.0], [0.2, 1.0, 0.0], [0.0, 0.0, 0.5]])",
    )
    reports = found(spec)  # the eigenvalue of (1, 1, 0) is 1.2
    for k in range(8):
        for i, w in enumerate((0.5, 0.5, 0.0)):
            assert reports["once_is"][k, i] == pytest.approx(w * 1.2 ** (k + 1), abs=1e-5)
            assert reports["each_is"][k, i] == pytest.approx(w * sum(1.2**j for j in range(k + 1)), abs=1e-5)
    assert verify(spec).agrees


def test_only_the_steps_that_are_asked_for_run(tmp_path: Path) -> None:
    body = "let r = run m on d rollout {{ steps: 8 }}\nreport y = mean(r[x[step: {}]], over: batch)"
    runs = {k: Execution(compiled(tmp_path, body.format(k))) for k in (0, 3, 7)}
    for k, execution in runs.items():
        execution.run()
        assert execution.totals.forwards == execution.predicted.forwards == k + 1


def test_each_step_is_one_run_for_all_points_of_a_sweep(tmp_path: Path) -> None:
    spec = compiled(
        tmp_path,
        "sweep a in [0.0, 0.5, 1.0, 1.5]\n"
        "let r = run m on d rollout { steps: 4 } do { x := a * self }\n"
        "report y = mean(r.output, over: batch)",
    )
    lines = [x for x in explain(spec).lines if x.kind == "run" and "do {" in x.what]
    assert len(lines) == 4
    assert [", step" in x.what for x in lines] == [False, True, True, True]
    assert found(spec)["y"].keys() == {
        (a, k, i) for a in (0.0, 0.5, 1.0, 1.5) for k in range(4) for i in range(3)
    }


def test_an_emulator_learns_a_linear_system(tmp_path: Path) -> None:
    """Trained on pairs of states, it goes on as the system does for some steps."""
    path = tmp_path / "spec.mi"
    path.write_text(
        """language mi 1
import std.models as models
from std.states import linear_states
let a = [[0.9, 0.2], [-0.2, 0.9]]
model new = models.emulator(d_state: 2, d_model: 16, d_mlp: 32, layers: 1, output: "delta", seed: 0)
model truth = models.linear_emulator(matrix: a)
data d = linear_states(matrix: a, n: 300, split: { train: 0.9, test: 0.1 }, seed: 1)
model m = train(new, on: d.train, minimise: fn (r) => mean(square(r.output - r.data.after), over: d_state),
  optim: adam(lr: 5e-3), steps: 300, batch: 64, seed: 0)
experiment e {
  let mine = run m on d.test rollout { steps: 4 }
  let theirs = run truth on d.test rollout { steps: 4 }
  let before = run new on d.test rollout { steps: 4 }
  report off = mean(square(mine.output - theirs.output), over: [batch, d_state])
  report was = mean(square(before.output - theirs.output), over: [batch, d_state])
}
"""
    )
    reports = found(compile_spec(path))
    assert all(reports["off"][k,] < 0.02 * reports["was"][k,] for k in range(4))


class Curl(nn.Module):
    """Somebody's own: a block of convolution-free layers, and a nonlinearity that no toy has."""

    def __init__(self, out: int = 3) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
        self.last = nn.Linear(3, out)

    def forward(self, state: Tensor) -> Tensor:
        """[..., 3] to [..., out]."""
        for layer in self.layers:
            state = state + torch.sin(layer(state))
        made: Tensor = self.last(state)
        return made


def test_a_module_of_ones_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Curl()
    text = """language mi 1
from std.states import states
data d = states(state: [[1.0, 2.0, 3.0], [0.5, -1.0, 0.0]])
experiment e {
  let r = run m on d rollout { steps: 4 } do { m.blocks[0].resid_post := 0.5 * self }
  report y = r.output
}
"""
    reports = found(midsl.compile(text, bind={"m": given_emulator(module, 3)}))
    want, state = [], torch.tensor([[1.0, 2.0, 3.0], [0.5, -1.0, 0.0]])
    with torch.no_grad():
        for _ in range(4):
            inner = 0.5 * (state + torch.sin(module.layers[0](state)))
            state = module.last(inner + torch.sin(module.layers[1](inner)))
            want.append(state)
    same(reports["y"], torch.stack(want))


def test_a_module_that_gives_another_shape_is_refused() -> None:
    for module, width in ((Curl(out=2), 3), (nn.Flatten(0), 3)):
        with pytest.raises(MiError) as err:
            given_emulator(module, width)
        assert err.value.diagnostics[0].code == "MI0517"
    with pytest.raises(MiError) as err:
        given_emulator(Curl(), 4)
    assert err.value.diagnostics[0].code == "MI0509"


@pytest.mark.slow
def test_a_long_rollout_is_no_depth_of_calls(tmp_path: Path) -> None:
    spec = compiled(
        tmp_path,
        "sweep a in [0.0, 0.01]\n"
        "let r = run m on d rollout { steps: 256 } do { m.output := self + a }\n"
        "report y = mean(r[m.output[step: 255]], over: batch)",
        "models.linear_emulator(matrix: [[0.9, 0.2, 0.0], [-0.2, 0.9, 0.0], [0.0, 0.0, 0.5]])",
    )
    assert verify(spec).agrees


def test_a_module_without_blocks_runs_as_it_is() -> None:
    """On the hook engine: whole forwards, any module of it a place."""
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3))
    text = """language mi 1
from std.states import states
data d = states(state: [[1.0, 2.0, 3.0], [0.5, -1.0, 0.0]])
site h: Site[batch, hidden] = m.module["model.1"].output
experiment e {
  sweep a in [0.5, 1.0]
  let r = run m on d rollout { steps: 3 } do { h := a * self }
  report y = r.output
  report inside = r[h]
}
"""
    execution = Execution(midsl.compile(text, bind={"m": given_emulator(module, 3)}))
    execution.run()
    tables = {t.report: cells(t) for s in execution.stages for t in s.tables}
    for a in (0.5, 1.0):
        want, hidden, state = [], [], torch.tensor([[1.0, 2.0, 3.0], [0.5, -1.0, 0.0]])
        with torch.no_grad():
            for _ in range(3):
                hidden.append(a * module[:2](state))
                state = module[2](hidden[-1])
                want.append(state)
        for name, values in (("y", want), ("inside", hidden)):
            same({k[1:]: v for k, v in tables[name].items() if k[0] == a}, torch.stack(values))


def test_functions_of_runs_are_lifted_over_steps(tmp_path: Path) -> None:
    path = tmp_path / "spec.mi"
    path.write_text(
        HEAD.format(model=NET.format("next")) + "fn off(r: Run, s: Float[batch, d_state]) -> Float[batch]\n"
        "  = mean(abs(r.output - s), over: d_state)\n"
        "fn to(s: Float[batch, d_state]) -> fn(Run) -> Float[batch] = fn (r) => off(r, s)\n"
        "experiment e {\n"
        "  let r = run m on d rollout { steps: 3 }\n"
        "  report a = mean(off(r, d.after), over: batch)\n"
        "  report b = mean(to(d.after)(r), over: batch)\n"
        "  report one = mean(off(run m on d, d.after), over: batch)\n}\n"
    )
    reports = found(compile_spec(path))
    assert reports["a"] == reports["b"] and set(reports["a"]) == {(0,), (1,), (2,)}
    assert reports["a"][0,] == pytest.approx(reports["one"][()], abs=1e-6)
    assert len({round(v, 5) for v in reports["a"].values()}) == 3
