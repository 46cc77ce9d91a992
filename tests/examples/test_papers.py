"""The examples of papers: what they expect holds, and does not once the method is broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.common import EXAMPLES, midsl

BROKEN = {
    "14_observable_propagation": ("observable(t, plus, minus), t.ln", "observable(t, 7, 8), t.ln"),
    "17_physics_steering": ("delta = high - low", "delta = high + low"),
    "33_geometric_stability": ("x - leading[component: out - 1]", "x - 0.0 * leading[component: out - 1]"),
}
"""By example, what of its text is replaced, and by what: the method then does not do what it should."""


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_its_claims_hold(name: str, tmp_path: Path) -> None:
    done = midsl("run", EXAMPLES / f"{name}.mi", "--store", tmp_path / "store")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_method_fails_its_claims(name: str, tmp_path: Path) -> None:
    text = (EXAMPLES / f"{name}.mi").read_text(encoding="utf-8")
    right, wrong = BROKEN[name]
    assert text.count(right) == 1
    spec = tmp_path / "broken.mi"
    spec.write_text(text.replace(right, wrong), encoding="utf-8")
    done = midsl("run", spec, "--store", tmp_path / "store")
    assert done.exit_code == 3, done.output
