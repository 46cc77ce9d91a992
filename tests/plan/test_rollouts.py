"""Rollouts: against a loop that anybody would write, one whole forward a token, over the module itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from midsl.data.dataset import Part
from midsl.data.written import written
from midsl.diagnostics.model import MiError
from midsl.plan import rollouts
from midsl.plan.decode import noise
from midsl.plan.driver import Compiled, Execution, compile_spec
from midsl.plan.explain import explain
from midsl.plan.session import Session
from midsl.plan.verify import verify

HEAD = """language mi 1
import std.models as models
from std.tasks import pairs
from std.metrics import nll
{model}
data d = pairs(
  m.tokenizer,
  clean: ["3 5 7", "1 2 3 4 5 6", "9 8 9 8"],
  corrupt: ["4 5 7", "1 2 3 4 4 6", "9 8 8 8"],
  answer: ["9", "7", "9"]
)
site x = m.blocks[1].resid_post
"""
TOY = "model m = models.toy(layers: 2, heads: 2, d_model: 16, d_mlp: 24, vocab: 24, ctx: 32, seed: 3)"
FAMILIES = {
    "learned positions": TOY,
    "rotary, gated": TOY.replace("seed: 3", 'pos: "rotary", norm: "rms", gated: true, kv_heads: 1, seed: 4'),
    "gpt2": 'model m = models.hf_random("gpt2", config: { n_layer: 2, n_head: 2, n_embd: 16, vocab_size: 24,'
    " n_positions: 32, bos_token_id: 0, eos_token_id: 0 }, perturb: 0.1)",
    "llama, grouped": 'model m = models.hf_random("llama", config: { num_hidden_layers: 2,'
    " num_attention_heads: 4, num_key_value_heads: 2, hidden_size: 16, intermediate_size: 24, vocab_size: 24,"
    " max_position_embeddings: 32 }, perturb: 0.1)",
    "gpt_neox, parallel": 'model m = models.hf_random("gpt_neox", config: { num_hidden_layers: 2,'
    " num_attention_heads: 2, hidden_size: 16, intermediate_size: 24, vocab_size: 24,"
    " max_position_embeddings: 32 }, perturb: 0.1)",
}


def compiled(tmp_path: Path, body: str, model: str = TOY) -> Compiled:
    path = tmp_path / "spec.mi"
    path.write_text(HEAD.format(model=model) + f"experiment e {{\n{body}\n}}\n")
    return compile_spec(path)


def rows_of(spec: Compiled) -> tuple[list[Part], Execution, Session]:
    """What the rollouts of a spec have written, in order."""
    execution, session = Execution(spec, keep=True), spec.session()
    execution.run(session=session)
    return [session.written.rows[s.rollout.digest] for s in spec.plan.rolls], execution, session


def by_hand(
    spec: Compiled, prompts: Part, steps: int, pick: Callable[[torch.Tensor, int, int], int]
) -> list[list[int]]:
    """The rows, each by itself: whole forwards of the module, one token each."""
    loaded = spec.binder.loaded(spec.program.models[0][1])
    found = []
    for i, length in enumerate(np.asarray(prompts.lengths).tolist()):
        row = prompts.tokens[i, :length].tolist()
        for step in range(steps):
            ids = torch.tensor([row])
            with torch.no_grad():
                out: Any = loaded.module(ids, attention_mask=torch.ones_like(ids))
            logits = getattr(out, "logits", out)
            row.append(pick(logits[0, -1], i, step))
        found.append(row)
    return found


def rows(part: Part) -> list[list[int]]:
    return [t[:n].tolist() for t, n in zip(part.tokens, part.lengths, strict=True)]


def prompts_of(spec: Compiled, session: Session) -> Part:
    return session.bound.part(spec.plan.rolls[0].rollout.room.data.part)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_are_those_of_a_plain_loop(tmp_path: Path, family: str) -> None:
    spec = compiled(
        tmp_path,
        "let r = run m on d.clean rollout { steps: 6 }  report t = mean(r.tokens, over: [batch, pos])",
        FAMILIES[family],
    )
    (part,), execution, session = rows_of(spec)
    want = by_hand(spec, prompts_of(spec, session), 6, lambda logits, i, step: int(logits.argmax()))
    tokenizer = spec.binder.tokenizer(spec.program.models[0][1])
    end = tokenizer.eos_id if tokenizer is not None else None
    for mine, theirs, n in zip(rows(part), want, prompts_of(spec, session).lengths, strict=True):
        assert mine == theirs[: len(mine)]
        assert len(mine) == n + 6 or mine[-1] == end
    assert execution.totals.flops == execution.predicted.flops > 0


def test_a_temperature_draws_from_the_softmax(tmp_path: Path) -> None:
    spec = compiled(
        tmp_path,
        "let r = run m on d.clean rollout { steps: 5, temperature: 0.7, seed: 11 }\n"
        "report t = mean(r.tokens, over: [batch, pos])",
    )
    (part,), _, session = rows_of(spec)
    options = {"seed": 11}

    def pick(logits: torch.Tensor, i: int, step: int) -> int:
        more = torch.from_numpy(noise(options, np.array([i]), step, len(logits)))[0]
        return int((logits.double() / 0.7 + more).argmax())

    assert rows(part) == by_hand(spec, prompts_of(spec, session), 5, pick)
    drawn = noise(options, np.arange(4000), 0, 3) + np.log([0.2, 0.5, 0.3])
    share = np.bincount(drawn.argmax(1), minlength=3) / 4000
    assert np.abs(share - [0.2, 0.5, 0.3]).max() < 0.03


def test_each_position_is_run_once(tmp_path: Path) -> None:
    spec = compiled(
        tmp_path,
        "let r = run m on d.clean rollout { steps: 6 }  report t = mean(r.tokens, over: [batch, pos])",
    )
    _, execution, session = rows_of(spec)
    given = int(np.sum(prompts_of(spec, session).lengths))
    # the last token of a row is never run: nobody asks what comes after it
    assert execution.totals.layer_tokens < 2 * (given + 3 * 5) + 1
    assert execution.totals.forwards == 1
    line = next(x for x in explain(spec).lines if x.kind == "roll")
    assert line.counts is not None and line.counts.flops == execution.totals.flops
    assert "each position once" in line.reason


def test_edits_are_in_force_where_they_stand(tmp_path: Path) -> None:
    """An edit of the prompt, of the new positions, of both, and of neither give rows of their own."""
    run = (
        "let {n} = run m on d.clean rollout {{ steps: 6 }} do {{ {e} }}\n"
        "report t_{n} = mean({n}.tokens, over: [batch, pos])\n"
    )
    other = "let c = run m on d.corrupt\nlet v = mean(c[x], over: [batch, pos])\n"
    edits = {
        "none": "x := self",
        "all": "x := self - 9 * v",
        "given": "x[pos: .prompt] := self - 9 * v",
        "later": "x[pos: .new] := self - 9 * v",
    }
    body = other + "".join(run.format(n=f"r_{n}", e=e) for n, e in edits.items())
    spec = compiled(tmp_path, body)
    parts, _, session = rows_of(spec)
    assert len({str(rows(p)) for p in parts}) == 4
    want = by_hand(spec, prompts_of(spec, session), 6, lambda logits, i, step: int(logits.argmax()))
    assert rows(parts[0]) == want
    # what is only edited from the first new position on begins as the unedited does
    start = prompts_of(spec, session).lengths
    assert [r[n] for r, n in zip(rows(parts[3]), start, strict=True)] == [
        r[n] for r, n in zip(want, start, strict=True)
    ]
    assert verify(spec).agrees


def test_rows_end_at_a_text(tmp_path: Path) -> None:
    first = compiled(
        tmp_path,
        "let r = run m on d.clean rollout { steps: 6 }  report t = mean(r.tokens, over: [batch, pos])",
    )
    (whole,), _, session = rows_of(first)
    start = np.asarray(prompts_of(first, session).lengths)
    tokenizer = first.binder.tokenizer(first.program.models[0][1])
    assert tokenizer is not None
    stop = tokenizer.token(rows(whole)[0][int(start[0]) + 2])
    spec = compiled(
        tmp_path,
        f'let r = run m on d.clean rollout {{ steps: 6, stop: ["{stop.strip()}"] }}\n'
        "report n = mean(r.data.emitted, over: batch)",
    )
    (part,), execution, _ = rows_of(spec)
    emitted = np.asarray(part.columns["emitted"].values)
    assert emitted.min() <= 3
    for mine, theirs, text in zip(rows(part), rows(whole), part.columns["text"].values, strict=True):
        assert mine == theirs[: len(mine)]
        assert stop.strip() not in str(text)
    assert execution.totals.flops == execution.predicted.flops
    line = next(x for x in explain(spec).lines if x.kind == "roll")
    assert line.least is not None and line.counts is not None
    assert line.least.flops <= execution.totals.flops <= line.counts.flops


def test_rows_are_written_in_groups_where_memory_is_short(tmp_path: Path) -> None:
    spec = compiled(
        tmp_path,
        "let r = run m on d.clean rollout { steps: 5, temperature: 1.0, seed: 1 }\n"
        "report t = mean(r.tokens, over: [batch, pos])",
    )
    (together,), _, session = rows_of(spec)
    made = rollouts.decoder(session, spec.plan.rolls[0])
    few = spec.session()
    width = made.room.tokens.shape[1]
    few.available = 2 * int(made.lowered.count(1, 1, width).peak_bytes / rollouts.SHARE) + 64
    execution = Execution(spec)
    assert 1 < len(rollouts.groups(few, made)) <= 3
    execution.run(session=few)
    assert rows(few.written.rows[spec.plan.rolls[0].rollout.digest]) == rows(together)


def test_verify_finds_a_token_that_is_not_the_likeliest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = compiled(
        tmp_path,
        "let r = run m on d.clean rollout { steps: 3 }  report t = mean(r.tokens, over: [batch, pos])",
    )
    assert verify(spec).agrees
    true = written

    def wrong(prompts: Part, tokens: Any, emitted: Any, texts: Any) -> Part:
        tokens = tokens.copy()
        tokens[0, prompts.lengths[0]] = (tokens[0, prompts.lengths[0]] + 1) % 24
        return true(prompts, tokens, emitted, texts)

    monkeypatch.setattr(rollouts, "written", wrong)
    assert not verify(spec).agrees


def test_a_model_that_looks_ahead_cannot_write(tmp_path: Path) -> None:
    spec = compiled(
        tmp_path,
        "let r = run m on d.clean rollout { steps: 3 }  report t = mean(r.tokens, over: [batch, pos])",
        TOY.replace("seed: 3", "causal: false"),
    )
    with pytest.raises(MiError) as err:
        explain(spec)
    assert err.value.diagnostics[0].code == "MI0606"
