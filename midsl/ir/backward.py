"""Backward rules: the substitutions that `grad(..., rules: {...})` may declare. No torch here.

A rule changes no value, only what counts as a constant on the way back. What each does to a model's graph
is in ``midsl.graph.backward``.
"""

RULES: dict[str, str] = {"attn": "freeze", "norm": "freeze_scale", "act": "ratio", "gate": "half"}
"""Part of a model -> the rule that there is for it.

- ``attn: freeze``: attention patterns are constants, so that a gradient goes through values alone.
- ``norm: freeze_scale``: what a norm divides by is a constant; centring is not.
- ``act: ratio``: an activation is its input times the constant act(x) / x (where x is 0: its slope there).
- ``gate: half``: of a product act(a) * b each factor gets half of its gradient, so that sums are kept.
"""
NEEDS: dict[str, str] = {"attn": "attn.z", "act": "mlp.pre", "gate": "mlp.pre"}
"""The site without which a part is not recognised in a model, so that its rule cannot be applied."""
FLAT = frozenset(
    {
        *("and", "approx", "argmax", "argmin", "eq", "ge", "gt", "isfinite", "le", "lt", "ne", "not", "or"),
        *("around", "count_up", "rank", "sign", "stop_gradient"),
    }
)
"""Operations that no gradient goes through: their results move in steps, or not at all."""
