"""What the functions of the language itself are for: signature and a sentence or two, by name.

They are written in Python, so nothing else could tell `midsl doc` or an editor. A test holds the table
to the functions that there are. `x: Float[..]` stands for a value with any axes.
"""

from __future__ import annotations

from midsl.sema.fits import OPTIMISERS

_DRAWN = "like: Float[..] | Site, seed: Int, over: Axes = those of like, per: Axes = [], stream: String"
_LAW = (
    "A draw depends on seed, call (or `stream`), example and coordinates alone; all points of the sweeps "
    "around it share it, but for those along the axes that `per` names."
)
_OVER = "over: Axes"
_ELEMENT = {
    "abs": "The size without the sign.",
    "exp": "e to the power of x.",
    "log": "The natural logarithm.",
    "sqrt": "The square root.",
    "relu": "x where it is above 0, else 0.",
    "gelu": "x times the standard normal distribution function of x.",
    "silu": "x times its sigmoid.",
    "sigmoid": "1 / (1 + exp(-x)).",
    "tanh": "The hyperbolic tangent.",
    "sign": "-1, 0 or 1.",
    "square": "x times x.",
    "stop_gradient": "x as it is, a constant for gradients.",
    "isfinite": "Whether a value is neither infinite nor NaN.",
}
_REDUCE = {
    "mean": "The mean over the named axes; padding and rows that cannot be used do not count.",
    "sum": "The sum over the named axes.",
    "min": "The least value over the named axes.",
    "max": "The greatest value over the named axes.",
    "count": "How many truth values hold.",
    "all": "Whether every truth value holds.",
    "any": "Whether some truth value holds.",
    "std": "The standard deviation, over n - 1.",
    "var": "The variance, over n - 1.",
}
_AXIS = {
    "softmax": "exp(x) as shares of their sum along an axis.",
    "log_softmax": "The logarithm of softmax, in nats.",
    "normalize": "x divided by its length along an axis.",
    "orthonormal": "Orthonormal vectors along an axis that span what the given ones span.",
    "cumsum": "Running sums along an axis.",
    "rank": "How many values along an axis are greater: 0 is the greatest.",
    "logsumexp": "The logarithm of the sum of exponentials along an axis, which goes.",
    "norm": "The Euclidean length along an axis, which goes.",
    "argmax": "The index of the greatest value along an axis, which goes.",
    "argmin": "The index of the least value along an axis, which goes.",
    "entropy": "The entropy in nats of the distribution that logits along an axis give; the axis goes.",
}
_TWO = {
    "cosine": "The cosine of the angle between two values along an axis, which goes.",
    "kl_divergence": "KL(a || b) in nats of the distributions that two logits give along an axis.",
    "js_divergence": "The Jensen-Shannon divergence in nats of the distributions that two logits give.",
}
_OPTIMISERS = {
    "adam": "The Adam optimiser; the rate rises over the first `warmup` steps, and falls to a tenth over "
    "the last share `cooldown` of the steps of a fit; gradients that are longer together than `clip` are cut "
    "to it.",
    "adamw": "Adam with decoupled weight decay.",
    "sgd": "Stochastic gradient descent.",
}

BUILTIN_DOCS: dict[str, tuple[str, str]] = {
    **{n: (f"{n}(x: Float[..])", d) for n, d in _ELEMENT.items()},
    **{
        n: (f"{n}(x: Float[..], {_OVER} = every axis, where: Bool[..], by: Column)", d)
        for n, d in _REDUCE.items()
    },
    **{n: (f"{n}(x: Float[..], over: Axis)", d) for n, d in _AXIS.items()},
    **{n: (f"{n}(a: Float[..], b: Float[..], over: Axis)", d) for n, d in _TWO.items()},
    "minimum": ("minimum(a: Float[..], b: Float[..])", "The lesser of two values, element by element."),
    "maximum": ("maximum(a: Float[..], b: Float[..])", "The greater of two values, element by element."),
    "where": ("where(cond: Bool[..], a: Float[..], b: Float[..])", "`a` where `cond` holds, else `b`."),
    "clamp": (
        "clamp(x: Float[..], min: Float, max: Float)",
        "x, held between two numbers; either may be left out.",
    ),
    "grad": (
        "grad(scalar: Float[..], at: Site | Float[..], rules: Record, through: Bool)",
        "The gradient of a scalar with respect to a site, a code or an error of the run that it is a "
        "function of (`at: run[site]` where that is not plain). Of several numbers, one gradient each, over "
        "one forward pass; `batch` is each row's own. What edits write is a constant, unless "
        "`through: true`. `rules` are factors taken for constants: "
        '{ attn: "freeze", norm: "freeze_scale", act: "ratio", gate: "half" }.',
    ),
    "jvp": (
        "jvp(value: Float[..], at: Site | Float[..], along: Float[..])",
        "What a small step along a direction changes: the gradient of each entry of a value at a site, times "
        "the direction. Axes that the direction has and the site has not are directions beside each other; "
        "all of them go over one forward pass. What edits write is a constant.",
    ),
    "numbered": (
        "numbered(x: Float, edges: Edges)",
        "A value along a sweep over edges, along the axis `edge` of a set of them, as `edges.number` is.",
    ),
    "except": ("except(family: Site, set: Sites)", "A family of sites without some of its members."),
    "top_sites": (
        "top_sites(x: Float[..], k: Int)",
        "The k members of a family with the greatest values, to sweep over: they are chosen while running.",
    ),
    "top_index": (
        "top_index(x: Float[..], k: Int, over: Axis)",
        "The k indices along an axis with the greatest values, to sweep over: they are chosen while running.",
    ),
    "top_mask": (
        "top_mask(x: Float[..], k: Int, over: Axes, per: Axis)",
        "x where it is among the k greatest along an axis, else 0. In the loss of a fit, "
        "`over: [batch, feature], per: batch` keeps k per example on average.",
    ),
    "top_values": (
        "top_values(x: Float[..], k: Int, over: Axis)",
        "The k greatest values along an axis, best first along `rank`: `value`, and `index` (of `vocab`: "
        "`token`). `top_values(-x, ..)` has the least.",
    ),
    "contexts": (
        "contexts(x: Float[batch, pos, ..], k: Int = 20, window: Int = 10, above: Float = 0.0, "
        "effects: Float[.., vocab], tokens: Int = 10)",
        "Where each unit (feature, neuron: an entry of the other axes) is largest over all rows and "
        "positions, of equals the earliest, found in one pass: tables `features` (density: the share of "
        "positions above `above`; the mean there; the largest), `top` (k places), `tokens` (those around "
        "each) and, with `effects` on tokens, `promoted` and `suppressed`.",
    ),
    "group_max": (
        "group_max(x: Float[..], k: Int, over: Axis)",
        "The axis in k equal stretches: x where it is the greatest of its stretch, else 0.",
    ),
    "dot": (
        "dot(a: Float[..], b: Float[..], over: Axes)",
        "The sum of products along one or several axes, which go.",
    ),
    "concat": (
        "concat(a: Float[..], b: Float[..], over: Axis)",
        "Two values one behind the other along an axis that both have: two codes as one.",
    ),
    "rename": (
        "rename(x: Float[..], old: new, ...)",
        "Another name for an axis: a matrix of a space into itself has two, and they need two names.",
    ),
    "eigenvectors": (
        "eigenvectors(x: Float[..], over: Axis, into: Axis = component, k: Int)",
        "The k eigenvectors of a symmetric matrix with the largest eigenvalues, along `over`; largest first.",
    ),
    "solve": (
        "solve(a: Float[..], b: Float[..], over: Axis, ridge: Float = 0.0)",
        "x with a x = b for a symmetric matrix `a`; `ridge` is added to its diagonal. Where `a` has further "
        "axes that b has, too, there is a matrix for each.",
    ),
    "step": (
        "step(x: Float[..], width: Float)",
        "1 where x is above 0, else 0; for gradients a ramp that is `width` wide.",
    ),
    "graph": (
        'graph(w: Float[..], from: String = "{src}", to: String = "{dst}", among: Sites[src, dst])',
        "A graph of the entries of a value: templates name the nodes that each goes between, with axes, or "
        'columns of a sweep, in braces (`from: "a{layer}.h{head}"`). Equal names are one node. Edges are the '
        "pairs that there is an entry for, where both ends go by one axis, else those of another weight than "
        "0; `among: m.edges` keeps those of a model. `graph(g, edges: { .. }, nodes: { .. })` is g with "
        "other columns.",
    ),
    "stored_graph": (
        "stored_graph(path: String)",
        "The graph of a file: Neuronpedia or EAP-IG (MIB) JSON, GraphML, a `.pt` of circuit-tracer.",
    ),
    "regroup": (
        "regroup(g: Graph, from: String, to: String)",
        'A graph with nodes under other names: `regroup(g, from: "a{l}.h{h}<{x}>", to: "a{l}.h{h}")`. Equal '
        "names are one node, and what is kept of their columns adds up.",
    ),
    "named": (
        "named(g: Graph, like: String, give: String)",
        'Which nodes are called so, Bool[node]: `named(g, "f{layer}.{i}")`; `give: "layer"` is what stands '
        "in that brace, Int[node], and -1 elsewhere.",
    ),
    "stored": (
        "stored(path: String, at: Site, from: Site = at, layer: Int, elsewhere: Bool = false)",
        "What a folder or file of a decomposition says (`kind`, `k`, ..), and its tensors as parameters. "
        "Formats: SAELens, sparsify, dictionary_learning, circuit-tracer, Gemma Scope, tuned-lens. `layer` "
        "chooses where one has several; `elsewhere` puts it at another place than the file names.",
    ),
    "train": (
        "train(model: Model, on: Data, minimise: fn(Run) -> Float[..], optim: Optim = adamw(), steps: Int, "
        "batch: Int = 64, seed: Int = 0)",
        "The model after training on minibatches; kept by what it is made from, so it is trained once.",
    ),
    **{
        n: (f"{n}({', '.join(f'{k}: Float = {v}' for k, v in OPTIMISERS[n].items())})", d)
        for n, d in _OPTIMISERS.items()
    },
    "params": (
        "params(tensors: Record, seed: Int = 0, axis: Int, ...)",
        "Tensors drawn from a seed, by name: `{ enc: normal([feature, d], unit: d), dec: same(enc) }`. Ways "
        "to draw: normal(axes, std:, unit:), uniform(axes, low:, high:, unit:), zeros, ones, orthogonal, "
        "same(name). Each new axis is given its length, or an axis that it is as long as.",
    ),
    "lens": (
        "lens(at: Site, from: Site = at, encode: fn(Float[..]) -> Float[..], "
        "decode: fn(Float[..]) -> Float[..], name: Any, ...)",
        "A decomposition of two maps. Its `code` and `error` are places: writing the code keeps the error. "
        "What else is named, such as `decoder`, it exposes.",
    ),
    "joint": (
        "joint(sites: Sites)",
        "A family of sites as one place: a lens at it is over all its members, side by side.",
    ),
    "fitted": (
        "fitted(lens: Lens, loss: Any, fit: Record)",
        "The lens with parameters that make the loss small. `loss`: a function of what the site holds (of "
        "what is read and what is written, where these are two), or a number that depends on runs. `fit`: "
        "on, optim, steps or tokens, batch, seed, skip (positions at the start of each row), until (a loss); "
        "`{}` fits nothing.",
    ),
    "zip": (
        "zip(a: List, b: List, ...)",
        "Records of one item of each list, to sweep over: `sweep p in zip(layer: [0, 1], dose: [0.5, 1.0])`.",
    ),
    "iterate": (
        "iterate(init: Any, fn: fn(Any, Int) -> Any, steps: Int)",
        "A function applied to its own result, `steps` times; it may take the number of the step, too.",
    ),
    "control": (
        "control(x: Any, of: Name)",
        "What an expression comes to with a control in the place of what it controls. `of` says which, where "
        "there are several.",
    ),
    "normal": (f"normal({_DRAWN})", f"Normal random numbers of mean 0 and variance 1. {_LAW}"),
    "uniform": (f"uniform({_DRAWN})", f"Random numbers from 0 up to 1. {_LAW}"),
    "shuffle": (
        "shuffle(x: Float[..], seed: Int, within: Column, stream: String)",
        "The rows of a value in random order; where `within` names a column, among those equal in it.",
    ),
    "split_subspace": (
        "split_subspace(v: Lens, by: Float[..])",
        'A subspace whole, inside and outside the row space of a weight: labels "full", "row", "null".',
    ),
}
