"""midsl from Python: results at hand, a session that stays warm, and the notebook's magic."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import midsl
from midsl.graph.rebind import forget
from midsl.graph.sites import build_model_graph
from midsl.models import toy
from midsl.plan import bind
from tests.e2e.conftest import Home, environment

SMALL = Path(__file__).with_name("small.mi")
MORE = SMALL.read_text().replace("report base", "plot heatmap(effect, x: head, y: layer)\n  report base")


@pytest.fixture
def here(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(home.folder)
    monkeypatch.setenv("MIDSL_CACHE_DIR", str(home.cache))
    yield home.folder


def test_a_file_and_its_results(here: Path) -> None:
    r = midsl.run(SMALL, {"seed": 1})
    assert r.passed and r.executed["forwards"] == 3
    assert r.table("effect").columns == ["layer", "head", "value", "n", "se"]
    assert r["small.base"] is r.table("base")
    answer = r.sql("FROM small.effect ORDER BY layer, head")
    assert answer.columns == r["effect"].columns and answer.rows == r["effect"].rows()
    frame = r.df("effect")
    assert list(frame.columns) == answer.columns
    assert frame["value"].tolist() == [row[2] for row in answer.rows]
    assert r.arrow("effect").to_pydict()["head"] == [0, 1, 0, 1]
    assert (
        (here / "midsl-results").is_dir() and "1 of 1 expects hold" in repr(r) and "<pre>" in r._repr_html_()
    )
    again = midsl.run(str(SMALL), {"seed": 1})
    assert again.executed["forwards"] == 0, "experiments come from the command line's store"
    assert again["effect"].rows() == answer.rows
    for name in ("efect", None):
        with pytest.raises(midsl.MiError) as error:
            r.table(name)
        assert error.value.diagnostics[0].code == "MI0807" and "effect" in error.value.diagnostics[0].help


def test_plots(here: Path) -> None:
    r = midsl.run(MORE)
    as_written, other = r.plot("effect"), r.plot("effect", kind="bar", x="layer")
    assert as_written.spec["mark"]["type"] == "rect" and other.spec["usermeta"]["midsl"]["kind"] == "bar"
    bundle = as_written._repr_mimebundle_()
    assert bundle["application/vnd.vegalite.v5+json"]["data"]["values"][0]["layer"] == 0
    as_written.save("plot.json")
    assert "vega-lite" in (here / "plot.json").read_text()
    pytest.importorskip("vl_convert")
    as_written.save("plot.svg")
    assert (here / "plot.svg").read_text().startswith("<svg")
    as_written.save("plot.png")
    assert (here / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_binding_is_no_plot(here: Path) -> None:
    with pytest.raises(midsl.MiError):
        midsl.run(MORE).plot("base")


def test_the_same_diagnostics(here: Path) -> None:
    with pytest.raises(midsl.MiError) as error:
        midsl.compile("language mi 1\nexperiment e {\n  report x = y\n}\n")
    assert [d.code for d in error.value.diagnostics] == ["MI0201"]
    with pytest.raises(midsl.MiError) as error:
        midsl.compile("nowhere.mi")
    assert error.value.diagnostics[0].code == "MI0504"
    assert not midsl.run(SMALL.read_text(), {"bound": 0.0}).passed
    plan = midsl.compile(SMALL, off=["batch_sweeps"]).plan
    assert len(plan.steps) > 0 and not hasattr(midsl, "nothing")


def test_a_session_keeps_models_and_graphs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"loaded": 0, "exported": 0}

    def count(what: str, real: Any) -> Any:
        def counted(*args: Any, **more: Any) -> Any:
            counts[what] += 1
            return real(*args, **more)

        return counted

    forget()
    monkeypatch.setattr(toy, "toy", count("loaded", toy.toy))
    monkeypatch.setattr(bind, "build_model_graph", count("exported", build_model_graph))
    session = midsl.Session("kept")
    first = session.run(SMALL)
    assert counts == {"loaded": 1, "exported": 1}
    edited = SMALL.read_text().replace("mean(ld(patched) - ld(corrupt)", "mean(ld(patched) + ld(corrupt)")
    second = session.run(edited, name="small")
    assert counts == {"loaded": 1, "exported": 1}, "neither loaded nor exported again"
    assert second.executed["forwards"] == 0, "all that is read has been read before"
    assert second["effect"].rows() != first["effect"].rows()
    cold = midsl.run(edited, store="cold", name="small")
    assert cold["effect"].rows() == second["effect"].rows(), "to the last bit"
    assert counts == {"loaded": 2, "exported": 1}, "the architecture is known to the process"
    assert len(session.sql("FROM runs")) == 2
    session.forget()
    session.run(edited, name="small")
    assert counts["loaded"] == 3


def test_the_magic_of_a_notebook(home: Home) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    cells = [
        "%load_ext midsl",
        f"%%mi heads -p seed=1\n{MORE}",
        "heads.df('effect')",
        "heads.plot('effect')",
        "print(heads.sql('SELECT count(*) FROM small.effect').rows)",
        "%%mi wrong\nlanguage mi 1\nexperiment e {\n  report x = y\n}",
        "%%mi --wrong\nlanguage mi 1",
        "'wrong' in globals()",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    kernel = {"metadata": {"path": str(home.folder)}}
    client = nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=kernel)
    client.execute(env=environment(home.cache))
    shown = [cell.outputs for cell in notebook.cells]
    assert "1 of 1 expects hold" in shown[1][0].data["text/plain"]
    assert "layer" in shown[2][0].data["text/html"]
    assert shown[3][0].data["application/vnd.vegalite.v5+json"]["mark"]["type"] == "rect"
    assert shown[4][0].text == "[(4,)]\n"
    assert "error[MI0201]" in shown[5][0].text and "--> notebook.mi:3" in shown[5][0].text
    assert "not understood" in shown[6][0].text and shown[7][0].data["text/plain"] == "False"
