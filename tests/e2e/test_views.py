"""What is shown beside the tables: rows and values by `view`, attention over the words it looks at."""

from __future__ import annotations

import html
import json
from collections.abc import Callable

import pytest

import midsl
from tests.e2e.conftest import Done, Home

Cli = Callable[..., Done]
SPEC = """language mi 1
import std.models as models
from std.tasks import induction
from std.metrics import nll
model m = models.toy(layers: 1, heads: 2, d_model: 8, vocab: 16, ctx: 16, seed: 0)
data  d = induction(m.tokenizer, n: 2, period: 4, seed: 0)
experiment e {
  let r = run m on d.clean
  report looks = r[m.blocks[0].attn.pattern[pos: .end]]
  plot tokens(looks, facet: head)
  report pairs = mean(r[m.blocks[0].attn.pattern], over: head)
  plot tokens(pairs, x: key_pos, facet: pos)
  view d.clean
  view mean(nll(r), over: pos)
}
"""


def test_views_are_shown_wherever_a_run_is(cli: Cli, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    (home.folder / "seen.mi").write_text(SPEC, encoding="utf-8")
    ran = cli("run", "seen.mi").expect(0).out
    told = cli("show", "latest").expect(0).out
    for said in (ran, told):
        assert "e: d.clean" in said and "e: mean(nll(r), over: pos)" in said and "positions" in said
    seen = cli("show", "latest", "--json").expect(0).json()["views"]
    assert [(v["view"], len(v["rows"])) for v in seen] == [("d.clean", 2), ("mean(nll(r), over: pos)", 2)]
    cli("report", "latest", "-o", "page.html").expect(0)
    page = (home.folder / "page.html").read_text(encoding="utf-8")
    words = seen[0]["rows"][0][1]
    assert 'id="views"' in page and html.escape(words) in page and "|" in words
    monkeypatch.chdir(home.folder)
    result = midsl.run(SPEC, store=home.folder / "other")
    assert [v.as_json() for v in result.views] == seen and words.split("|")[0] in repr(result)


def test_attention_over_the_words_it_looks_at(cli: Cli, home: Home) -> None:
    (home.folder / "seen.mi").write_text(SPEC, encoding="utf-8")
    cli("run", "seen.mi").expect(0)
    texts = (
        cli("sql", "SELECT text FROM artifacts WHERE kind = 'plot' ORDER BY name", "--json").expect(0).json()
    )
    looks, pairs = (json.loads(t["text"]) for t in texts)
    rows = looks["data"]["values"]
    for head in (0, 1):
        for example in (0, 1):
            mine = [r for r in rows if (r["head"], r["example"]) == (head, example)]
            assert abs(sum(r["value"] for r in mine) - 1) < 1e-5, "what it looks at sums to one"
    seen = cli("show", "latest", "--json").expect(0).json()["views"][0]["rows"]
    spelled = [r["text of the token"] for r in rows if (r["head"], r["example"]) == (0, 1)]
    assert "|".join(spelled) == seen[1][1], "each row stands on the word that is looked at"
    assert looks["spec"]["encoding"]["x"]["field"] == "key_pos" and looks["facet"]["field"] == "head"
    assert pairs["facet"]["field"] == "pos"
    bad = SPEC.replace("plot tokens(pairs, x: key_pos, facet: pos)", "plot tokens(pairs)")
    (home.folder / "bad.mi").write_text(bad, encoding="utf-8")
    assert "no place for `key_pos`" in cli("check", "bad.mi").expect(2).err
    bad = SPEC.replace("plot tokens(looks, facet: head)", "plot tokens(looks, x: head)")
    (home.folder / "bad.mi").write_text(bad, encoding="utf-8")
    assert "MI0302" in cli("check", "bad.mi").expect(2).err
