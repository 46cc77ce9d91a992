"""The local interaction basis of its authors: Gram matrices, strengths, what keeping k directions leaves.

Their package ran in float64; so does the plan here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from midsl.plan.driver import Execution, compile_spec
from midsl.plan.session import Session
from midsl.plan.verify import Lifted
from midsl.store.rows import ResultTable
from tests.examples.given import modular_addition
from tests.real.common import DATA, needs

RIB = DATA / "rib_modadd"
pytestmark = [needs("rib_modadd"), pytest.mark.slow]


def reported(folder: Path) -> dict[str, ResultTable]:
    """The spec's reports, on the authors' split of all pairs."""
    given = {k: str(f) for k, f in modular_addition(folder).items()}
    made = compile_spec(Path(__file__).with_name("rib_modadd.mi"), given)
    session = Session(made.plan, Lifted(made.binder), made.optimised.program.roots, mode=made.compile_mode)
    done = Execution(made)
    done.run(session=session)
    return {t.report: t for s in done.stages for t in s.tables}


def test_the_basis_is_that_of_its_authors(tmp_path: Path) -> None:
    got = reported(tmp_path)
    graph = torch.load(RIB / "reference" / "rib_seed0_rib_graph.pt", weights_only=True, map_location="cpu")
    for layer, name in ((1, "mid"), (2, "top")):
        theirs = graph["interaction_rotations"][layer]
        gram = graph["gram_matrices"][theirs["node_layer"]].double().numpy()[:128, :128]
        ours = got[f"{name}_gram"].value.reshape(128, 128)
        assert np.abs(ours - gram).max() < 1e-7 * np.abs(gram).max()
        strength = theirs["Lambda"].double().numpy()[1:41]  # the first is the constant's
        assert np.allclose(got[f"{name}_strength"].value[:40], strength, rtol=1e-4)
    # accuracies as published to four digits, on the pairs that were not trained on
    assert np.round(got["mid_right"].value, 4).tolist() == [0.3691, 0.7845, 0.9832]
    assert np.round(got["top_right"].value, 4).tolist() == [0.4081, 0.9983]
