"""What is tried of the example of each paper, one record each: three seeds, numbers, a break of its method.

`test_catalog` tries it, and says whether each has them; where there are no three seeds, the record says why.
Those of the other examples are in `catalog`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest import approx

from tests.examples.given import files, modular_addition, written_stories


@dataclass(frozen=True)
class Break:
    """A text of the example that stands for its method, another one for it, and the claims that then fail.

    Attributes:
        fails: how these claims begin.
        only: the experiment that has them, where it is enough to run that one.
    """

    old: str
    new: str
    fails: tuple[str, ...]
    only: str = ""


@dataclass(frozen=True)
class Seeds:
    """Three seeds: values of a parameter or, with a table, of a column that the example sweeps itself."""

    name: str
    values: tuple[int, int, int]
    table: str = ""


@dataclass(frozen=True)
class Example:
    """What is tried of an example.

    Attributes:
        broken, also: what breaks its method, and what notices.
        seeds: on which all of its claims hold; the first is the example's own.
        golden: values by query, at that seed: a number, a list of several rows, or an `approx` of its own.
        rel, abs: how far these may be off, as a share and as a number.
        fast: all of this is done in CI proper; otherwise it is slow.
        part: where all is slow, arguments of a part that CI proper runs, with the numbers and the break.
        given: parameters that are files, some written to a folder.
    """

    broken: Break
    seeds: Seeds | None = None
    golden: Mapping[str, object] = field(default_factory=dict)
    rel: float = 2e-3
    abs: float = 1e-6
    fast: bool = False
    part: tuple[str, ...] = ()
    given: Callable[[Path], dict[str, Path]] = lambda _: {}
    also: tuple[Break, ...] = ()


OWN = Seeds("seed", (20, 21, 22))

PAPERS = {
    "01_modular_addition": Example(
        Break(
            "m.blocks[0].mlp.W_out, m.W_U",
            "blank.blocks[0].mlp.W_out, m.W_U",
            ("of_local <= 0.5 * of_main",),
            only="nodes",
        ),
        seeds=Seeds("seed", (0, 1, 2)),
        golden={
            'SELECT value FROM nodes."needed.local"': approx([13.0], abs=3),
            'SELECT value FROM nodes."needed.main"': approx([77.0], abs=8),
            'SELECT value FROM edges."needed.local"': approx([630.0], rel=0.3),
            'SELECT value FROM edges."needed.main"': approx([4508.0], rel=0.3),
        },
        also=(
            Break(
                "order_of(local), k, n: 60",
                "order_of(-local), k, n: 60",
                ("of_local <= 0.5 * of_main",),
                only="edges",
            ),
        ),
    ),
    "01_interaction_basis": Example(  # of a published model, for which there is one seed; more in tests/real
        Break(
            "jacobian_gram(g, outputs: out, rows: batch)",
            "dot(m.W_U, next, over: vocab)",
            ("near(v.strength, 16415.65, 5035.41, 4638.54, 1e-4)",),
            only="strengths",
        ),
        golden={
            "SELECT value FROM nodes.right_top WHERE keep = 8": 0.9983,
            "SELECT value FROM nodes.right_mid WHERE keep = 15": 0.9832,
        },
        rel=0,
        abs=2e-4,
        given=modular_addition,
    ),
    "02_subspace_illusion": Example(
        Break(
            "do { part.code := clean }",
            "do { part.code := corrupt }",
            ('fldd[part: "full"] >= 0.8',),
            only="hidden",
        ),
        OWN,
        {
            "SELECT value FROM hidden.fldd WHERE part = 'full'": 1.701,
            "SELECT value FROM hidden.fldd WHERE part = 'row'": 0.341,
            "SELECT value FROM hidden.whole": 0.00311,
            "SELECT value FROM stream.effect": 2.126,
            "SELECT value FROM stream.truth": 0.9705,
        },
        fast=True,
    ),
    "04_stitching": Example(
        Break("take: novel)", "take: known)", ("with_novel < base",), only="stitching"),
        OWN,
        {
            "SELECT value FROM stitching.base": 0.01819,
            "SELECT value FROM stitching.with_novel": 0.01115,
            "SELECT value FROM stitching.with_known": 0.034,
            "SELECT value FROM meta.explained_of": 0.8987,
            "SELECT value FROM meta.of_random": 0.6726,
        },
        rel=0.03,
    ),
    "05_snmf": Example(
        Break(
            "rank: 10, keep: keep, steps: 500",
            "rank: 10, keep: keep, steps: 1",
            ("close[keep: 0.15] >= 0.85",),
            only="planted",
        ),
        OWN,
        {
            "SELECT value FROM planted.close WHERE keep < 0.5": 0.9045,
            "SELECT value FROM planted.close WHERE keep > 0.5": 0.5992,
            "SELECT value FROM concepts.distinct": 9.0,
        },
        fast=True,
    ),
    "08_degeneracy": Example(
        Break(
            "in3 * 3.0 - trade", "in3 * 3.0", ("count(abs(found.bound - found.rank) < 0.5",), only="counts"
        ),
        Seeds("seed", (20, 21, 22), "counts.rank"),
        {
            "SELECT value FROM counts.rank WHERE kind = 'generic' AND seed = 20": 72.0,
            "SELECT value FROM counts.bound WHERE kind = 'generic' AND seed = 20": 72.0,
            "SELECT value FROM counts.rank WHERE kind = 'on' AND seed = 21": 49.0,
            "SELECT value FROM counts.bound WHERE kind = 'dead' AND seed = 21": 32.0,
            'SELECT value FROM modules."seed21.mixed"': 0.0,
        },
        rel=1e-6,
        fast=True,
        also=(
            Break(
                "apart * right + (1.0 - apart) * left",
                "left",
                ("a.crossing <= 1e-12", "a.mixed == 0"),
                only="modules",
            ),
        ),
    ),
    "09_contextual_decomposition": Example(
        Break(
            "answer, how, keep: 1, rounds: 2",
            "answer, how, keep: 1, rounds: 1",
            ("auroc(again, truth, over: at) ~= 1",),
        ),
        OWN,
        {
            "SELECT value FROM sort.direct_auc": 0.75,
            "SELECT value FROM sort.iterated_auc": 1.0,
            "SELECT max(value) FROM sort.direct WHERE layer < 2": 0.0,
        },
        rel=1e-6,
        part=("--select", "sort", "-p", "n=16"),
    ),
    "14_observable_propagation": Example(
        Break("observable(t, plus, minus), t.ln", "observable(t, 7, 8), t.ln", ("all(agree >= 0.95)",)),
        Seeds("s", (0, 1, 2), "heads.correlation"),
        {
            "SELECT value FROM heads.correlation WHERE s = 0": 1.0,
            "SELECT value FROM heads.correlation WHERE s = 2": 0.998,
            "SELECT value FROM heads.predicted WHERE s = 0 AND h = 3": 3.36,
        },
        abs=0.02,
        part=("--select", "heads"),
    ),
    "16_responsiveness": Example(
        Break(
            "sum(max(where(one.there", "sum(min(where(one.there", ("all(fixed == never)",), only="recourse"
        ),
        Seeds("seed", (20, 21, 22), "audit.denied_share"),
        {
            "SELECT value FROM audit.denied_share WHERE seed = 20": 0.542,
            "SELECT value FROM audit.only_dead WHERE seed = 20 AND explain = 'shap'": 0.5590405904,
            "SELECT value FROM recourse.only_jointly WHERE seed = 22": 0.4560143627,
        },
        rel=1e-6,
        fast=True,
    ),
    "16_responsiveness_german": Example(
        Break(
            "count(given and not (mu > 0)",
            "count(given and not (mu > 0.5)",
            ('all(any_dead[explain: "responsive"] ~= 0.0)',),
            only="audit",
        ),
        Seeds("first", (0, 100, 200), "audit.accuracy"),
        {
            'SELECT value FROM audit.accuracy WHERE "first" = 0': 0.777,
            "SELECT value FROM audit.only_dead WHERE \"first\" = 0 AND explain = 'shap'": 0.0697674419,
        },
        rel=1e-6,
        fast=True,
        given=lambda _: files(table="tabular_german_credit/german_data.csv"),
    ),
    "17_physics_steering": Example(
        Break(
            "delta = high - low",
            "delta = high + low",
            (
                "first ~= 1 within 0.1",
                "aimed > max(abs(control(aimed)), over: k)",
            ),
            only="steer",
        ),
        Seeds("seed", (0, 1, 2)),
        {
            "SELECT value FROM steer.first": 1.0,
            "SELECT value FROM steer.grows": 8.02,
            "SELECT value FROM learned.kept": 0.0,
        },
        abs=0.05,
        fast=True,
    ),
    "18_fis_cloud": Example(
        Break(
            "t.y, 0, up, share * eps)",
            "t.y, 0, up, eps)",
            ("all(abs(far0 - sqrt(share * eps / 2.0)) < 0.01)",),
            only="cloud",
        ),
        Seeds("seed", (0, 1, 2), "known.score"),
        {
            'SELECT min(value) FROM known.score WHERE seed = 0 AND "first" = 1.0': -2.0,
            'SELECT min(value) FROM known.score WHERE seed = 0 AND "first" = 0.8': -1.92,
            "SELECT avg(value) FROM cloud.width": 0.46,
        },
        abs=0.03,
    ),
    "18_fis_cloud_compas": Example(
        Break(
            "masked(chance(m), mask), x, p",
            "masked(chance(m), maximum(mask, 0.0)), x, p",
            ("pairs[rate: 0.05] >= 5",),
            only="cloud",
        ),
        Seeds("fold", (0, 1, 2)),
        {
            "SELECT value FROM sums.expected WHERE i = 22 AND j = 24": 0.1021,
            "SELECT value FROM cloud.accuracy": 0.6734,
            "SELECT max(value) FROM cloud.changing": 6.0,
        },
        rel=0,
        abs=1e-3,
        given=lambda _: files(table="tabular_compas/compas.csv"),
    ),
    "25_transcoders": Example(
        Break(
            "writers(tc.decoder)[target: j]",
            "writers(tc.decoder)[target: j + 1]",
            ("own_after <= 0.5",),
            only="circuits",
        ),
        OWN,
        {
            "SELECT value FROM latents.f1 WHERE l1 BETWEEN 0.02 AND 0.05": 0.7825,
            "SELECT value FROM latents.sae_f1 WHERE l1 BETWEEN 0.02 AND 0.05": 0.5866,
            "SELECT value FROM latents.knows": 0.962,
            "SELECT value FROM circuits.pairs": 1.0,
            "SELECT value FROM circuits.own_after": 0.0,
        },
        rel=0.03,
    ),
    "32_right_mediator": Example(
        Break("do { part := one }", "do { part := self }", ("all(back ~= 1.0 - needed)",)),
        OWN,
        {
            "SELECT min(value) FROM and_gate.noising": 1.0,
            "SELECT max(value) FROM and_gate.denoising": 0.0,
            "SELECT max(value) FROM or_gate.noising": 0.0,
            "SELECT min(value) FROM or_gate.denoising": 1.0,
        },
        rel=1e-6,
        part=("--select", "and_gate", "--select", "or_gate"),
    ),
    "33_geometric_stability": Example(
        Break(
            "x - leading[component: out - 1]",
            "x - 0.0 * leading[component: out - 1]",
            ("all(similarity[out: 1] < 0.3)",),
            only="spectrum",
        ),
        Seeds("seed", (320, 321, 322), "spectrum.similarity"),
        {
            "SELECT value FROM spectrum.similarity WHERE seed = 320 AND out = 1": 0.2732,
            "SELECT value FROM spectrum.stability WHERE seed = 320 AND out = 1": 0.9554,
            "SELECT value FROM spectrum.stability WHERE seed = 322 AND out = 20": 0.5529,
            "SELECT value FROM rotated.after WHERE seed = 0": 0.7847,
        },
        rel=0,
        abs=1e-3,
        fast=True,
    ),
    "33_population": Example(
        Break(
            "supervised_alignment(e, ask.kind)",
            "supervised_alignment(e, shuffle(ask.kind, seed: 9))",
            ("all(steer >= 0.7)",),
        ),
        Seeds("s", (0, 1, 2), "population.rho_steering"),
        {
            "SELECT value FROM population.rho_steering WHERE s = 0 AND width = 64": 0.953,
            "SELECT value FROM population.rho_random WHERE s = 0 AND width = 64": -0.43,
            "SELECT value FROM population.rho_early WHERE s = 0 AND width = 64": 0.893,
        },
        abs=0.1,
    ),
    "40_mp_sae": Example(
        Break(
            "in_order_of(truth, mp.decoder",
            "in_order_of(truth, none.decoder",
            ("mean(mp_close, over: vocab) >= 0.98",),
            only="found",
        ),
        OWN,
        {
            "SELECT avg(value) AS value FROM found.mp_close": 0.99998,
            "SELECT avg(value) AS value FROM found.l1_close": 0.8979,
            "SELECT value FROM found.l1_parent_child": 0.6267,
            "SELECT value FROM found.mp_l0": 1.372,
            "SELECT value FROM found.l1_gram": 0.06343,
        },
        fast=True,
    ),
    "41_attention_sae": Example(
        Break(
            "told(r, sae, code)", "told(r, sae, shuffle(code, seed: 1))", ("source >= 0.6",), only="sources"
        ),
        OWN,
        {
            "SELECT value FROM quality.on": 9.404,
            "SELECT value FROM quality.recovered": 0.9998,
            "SELECT value FROM quality.fvu": 0.2192,
            "SELECT value FROM sources.source": 1.0,
            "SELECT value FROM causes.takes": 2.587,
        },
        rel=0.03,
    ),
    "41_attention_sae_stories": Example(
        Break(
            "kv_head: [0, 0, 1, 1, 2, 2, 3, 3]",
            "kv_head: [0, 1, 2, 3, 0, 1, 2, 3]",
            ("of_heads <= 1e-5 and of_positions <= 1e-5",),
            only="sources",
        ),
        OWN,
        {
            'SELECT value FROM quality."on" ORDER BY layer': approx(
                [9.41, 14.51, 17.60, 23.18, 25.02], rel=0.03
            ),
            "SELECT value FROM quality.recovered ORDER BY layer": [0.948, 0.940, 0.841, 0.888, 0.893],
            "SELECT value FROM quality.by_random ORDER BY layer": [0.708, 0.787, 0.227, 0.487, 0.512],
            "SELECT value FROM quality.by_mean ORDER BY layer": [-0.035, -0.058, -0.190, -0.118, -0.096],
            "SELECT value FROM pronoun.by_code": approx([0.633], rel=0.03),
            "SELECT count(*) FROM quality.own WHERE value >= 2": approx([38], rel=0.03),
        },
        rel=0,
        abs=0.01,
        given=written_stories,
    ),
    "45_geospatial": Example(
        Break(
            "moran(ask.east, ask.north, here,",
            "moran(ask.east, ask.north, shuffle(here, seed: 9),",
            ("all(share_of_units[layer: 2] >= 0.6)",),
        ),
        Seeds("s", (0, 1, 2), "layers.share"),
        {
            "SELECT avg(value) FROM layers.share WHERE layer = 2": 1.0,
            "SELECT max(value) FROM layers.share_untrained": 0.0,
            "SELECT avg(value) FROM layers.most WHERE layer = 2": 0.88,
        },
        abs=0.05,
    ),
    "46_nonlinear_dilemma": Example(
        Break("split: 16)", "split: 32)", ("all(bent >= 0.95)",), only="trained"),
        Seeds("s", (0, 1, 2), "trained.iia_bent"),
        {
            "SELECT avg(value) FROM trained.iia_bent": 0.998,
            "SELECT avg(value) FROM trained.iia_straight": 0.508,
            "SELECT avg(value) FROM untrained.bent_on_pool": 1.0,
            "SELECT avg(value) FROM untrained.bent_on_others": 0.487,
        },
        abs=0.03,
    ),
}
