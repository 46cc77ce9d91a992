"""Binding: recipes become models, data sets and tokenizers; each is built once.

`Binder` answers what the elaborator asks (`Facts`) with what is really there, and hands the planner
graphs and rows. Data is tokenised here, before any forward pass, so that a spec which cannot run is
refused with nothing written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

from torch import Tensor

from midsl.artefacts.base import content
from midsl.artefacts.graphs import tracer
from midsl.artefacts.graphs.base import GraphFile
from midsl.data.build import first_rows
from midsl.data.dataset import Dataset, Part, Tokenizer
from midsl.diagnostics.model import Bag, Diagnostic, MiError, fail
from midsl.fit.draw import draw_params
from midsl.graph.cache import load_info, save_info
from midsl.graph.export import ExportFailed
from midsl.graph.hooks import HookModel, hook_model
from midsl.graph.info import ModelInfo
from midsl.graph.rebind import keep, kept, rebind
from midsl.graph.reweigh import parameter_of, with_own
from midsl.graph.sites import ModelGraph, build_model_graph
from midsl.ir import nodes as ir
from midsl.models.loaded import LoadedModel
from midsl.ops.extern import call
from midsl.reach import Reach
from midsl.sema.check import Checked, check_source
from midsl.sema.facts import Facts, Told
from midsl.sema.filefacts import FileFacts
from midsl.sema.given import Given
from midsl.source import SourceFile


@dataclass
class Binder(Facts):
    """Builds what recipes describe, out of what is in reach."""

    reach: Reach = field(default_factory=Reach)
    bag: Bag = field(default_factory=Bag)
    models: dict[str, LoadedModel] = field(default_factory=dict)
    graphs: dict[tuple[str, bool], ModelGraph] = field(default_factory=dict)
    exported: dict[tuple[str, bool], ModelGraph] = field(default_factory=dict)
    infos: dict[str, ModelInfo] = field(default_factory=dict)
    datasets: dict[str, Dataset] = field(default_factory=dict)
    hooked: dict[str, HookModel] = field(default_factory=dict)
    externs: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    trainer: Callable[[Binder, ir.Train], LoadedModel] | None = None
    fitter: Callable[[Binder, ir.Fit], dict[str, Tensor]] | None = None
    is_bound = True
    limit: int = 0
    """How many rows to take of each data set that nothing is trained or fitted on; 0: all."""
    whole: set[str] = field(default_factory=set)
    """Data sets that are never cut, by digest."""
    functions: dict[str, Callable[..., Any]] = field(default_factory=dict)
    """Those that the caller has handed over, by reference."""

    def keep_models_of(self, other: Binder) -> None:
        """Share what another binder has loaded and exported; data is made again: files may have changed."""
        self.models, self.graphs, self.exported = other.models, other.graphs, other.exported
        self.hooked, self.externs = other.hooked, other.externs

    # -- Facts

    def info(self, model: ir.Node) -> ModelInfo | None:
        """The site table: from the cache, else from an export."""
        root = ir.start_of(model)
        known = self.infos.get(root.digest)
        if known is None:
            loaded = self.loaded(root)
            known = load_info(loaded.key)
            if known is None:
                known = self.engine(root).info
                if known.engine == "graph" and loaded.arch != "given":
                    save_info(known)
            self.infos[root.digest] = known
        return known

    def name_axes(self, model: ir.Node, site: str, axes: tuple[str, ...]) -> None:
        """Write axes that a spec names into the model's site table."""
        root = ir.start_of(model).digest
        rows = [replace(r, axes=axes) if r.name == site else r for r in self.infos[root].sites]
        self.infos[root] = replace(self.infos[root], sites=tuple(rows))
        if root in self.hooked:
            self.hooked[root].info = self.infos[root]

    def dataset(self, data: ir.Node) -> Dataset:
        """The rows of a data set; says how many could not be used."""
        done = self.datasets.get(data.digest)
        if done is None:
            assert isinstance(data, ir.Data)
            done = self._call(data.ref, data.args, data)
            if self.limit and data.digest not in self.whole:
                done = first_rows(done, self.limit)
            self.datasets[data.digest] = done
            left_out = len(done.ineligible)
            if left_out:
                reasons = {r.reason for r in done.ineligible}
                self.bag.add(
                    Diagnostic(
                        "MI0512",
                        f"{left_out} of {done.rows_total} rows cannot be used",
                        data.span,
                        label="; ".join(sorted(reasons)[:3]),
                        help="they are left out of every result; n says how many were kept",
                        severity="warning",
                    )
                )
        return done

    def code(self, ref: str) -> str:
        """A hash of the file that a function outside midsl stands in: other code, other results."""
        module = ref.partition(":")[0]
        if module.startswith("midsl."):
            return ""  # its version stands for it
        try:
            spec = find_spec(module)
        except (ImportError, ValueError):
            spec = None
        path = Path(spec.origin) if spec is not None and spec.origin is not None else None
        return content(path) if path is not None and path.is_file() else ""

    def extern(self, ref: str, params: tuple[Any, ...], gives: tuple[Any, ...]) -> Told:
        """What a function of literals gives: it is called now."""
        made = call(ref, params, [], gives, {})
        whole = sha256()
        for name, x in sorted(made.items()):
            whole.update(repr((name, x.shape, x.dtype)).encode())
            whole.update(x.tobytes())
        return Told({f: x.shape for f, x in made.items()}, whole.hexdigest())

    def graph_file(self, path: Path) -> GraphFile:
        """The graph of a `.pt`."""
        return tracer.read(path).checked(path)

    # -- Bound

    def loaded(self, model: ir.Node) -> LoadedModel:
        """The model itself."""
        if isinstance(model, ir.Reweighted):
            return self.loaded(model.model)
        done = self.models.get(model.digest)
        if done is None:
            if isinstance(model, ir.Train):
                assert self.trainer is not None
                done = self.trainer(self, model)
            else:
                assert isinstance(model, ir.Model)
                done = self._call(model.ref, model.args, model)
            self.models[model.digest] = done
        return done

    def engine(self, model: ir.Node) -> ModelGraph | HookModel:
        """The exported graph of a model, or its hook engine where it cannot be exported (MI0603)."""
        if model.digest in self.hooked:
            return self.hooked[model.digest]
        try:
            return self.graph(model)
        except ExportFailed as err:
            loaded = self.loaded(model)
            self.bag.add(
                Diagnostic(
                    "MI0603",
                    f"this model runs on the hook engine: {err}",
                    model.span,
                    label="it cannot be exported",
                    help="module sites and whole forwards only; `midsl sites` lists them",
                    severity="warning",
                )
            )
            done = self.hooked[model.digest] = hook_model(loaded, str(err), loaded.sizes)
            return done

    def graph(self, model: ir.Node, lift: bool = False) -> ModelGraph:
        """The exported graph of a model, lifted to float64 on request; raises `ExportFailed`."""
        key = (model.digest, lift)
        if key not in self.graphs and isinstance(model, ir.Reweighted):
            self.graphs[key] = self._reweighted(model, lift)
        if key not in self.graphs:
            self.graphs[key] = self._exported(model, lift)
        return self.graphs[key]

    def _exported(self, model: ir.Node, lift: bool) -> ModelGraph:
        """The graph of a model: that of its architecture, once that is known, with the model's weights."""
        loaded = self.loaded(model)
        start = ir.start_of(model)
        mine = isinstance(start, ir.Model) and start.ref.startswith("bind:")  # somebody may have changed it
        twin = self.exported.get((loaded.key, lift)) or (None if mine else kept(loaded.key, lift))
        if twin is not None:
            return rebind(twin, loaded, lift)
        made = build_model_graph(loaded, lift=lift, known=None if mine else load_info(loaded.key))
        self.exported[loaded.key, lift] = made
        if not mine:
            keep(made, lift)
        return made

    def _reweighted(self, model: ir.Reweighted, lift: bool) -> ModelGraph:
        """The graph of a model with room for weights of its own, which a step of the plan puts there."""
        graph = self.graph(model.model, lift)
        for w in model.weights:
            try:
                parameter_of(graph, w.name, w.layer)
            except KeyError:
                raise fail(
                    "MI0404",
                    f"`{w.name}` cannot be written",
                    w.value.span,
                    label="a norm's, a scaled table, or a bias that this model does without",
                    help="edit the site that it makes",
                ) from None
        return with_own(graph, [(w.name, w.layer) for w in model.weights])

    def part(self, node: ir.Part) -> Part:
        """The rows of a part."""
        return self.dataset(node.data).part(node.side, node.split)

    def weight(self, model: ir.Node, name: str, layer: int | None) -> Tensor:
        """A weight by field name."""
        try:
            return self.graph(model).weight(name, layer)
        except KeyError:
            raise fail(
                "MI0401",
                f"the model has no weight `{name}`",
                model.span,
                help="`midsl sites` lists sites and weights",
            ) from None

    def tokenizer(self, model: ir.Node) -> Tokenizer | None:
        """The tokenizer of a model, where it has one."""
        return self.loaded(ir.start_of(model)).tokenizer

    def param(self, node: ir.Param) -> Tensor:
        """A tensor of a decomposition, drawn or fitted."""
        return self.fitted(node.of)[node.name]

    def fitted(self, of: ir.Node) -> dict[str, Tensor]:
        """The tensors of a `Params` or a `Fit`."""
        if of.digest not in self.tensors:
            if isinstance(of, ir.Fit):
                assert self.fitter is not None
                self.tensors[of.digest] = self.fitter(self, of)
            else:
                assert isinstance(of, ir.Params)
                self.tensors[of.digest] = draw_params(of)
        return self.tensors[of.digest]

    # -- building

    def _call(self, ref: str, args: tuple[tuple[str, Any], ...], node: ir.Node) -> Any:
        if ref.startswith("bind:"):
            return self._given(ref, args, node)
        module, _, name = ref.partition(":")
        if not module.startswith("midsl.") and not self.reach.trust.code:
            raise fail(
                "MI0605",
                f"{ref} is Python outside the standard library",
                node.span,
                help="read that code, then run with `--trust`",
            )
        try:
            function = getattr(import_module(module), name)
        except (ImportError, AttributeError) as err:
            raise fail(
                "MI0601",
                f"not implemented: {ref} ({err})",
                node.span,
                help="see that the function stands in that module, and what it needs is installed",
            ) from None
        given = {k: self.decode(v) for k, v in args}
        if self.reach.trust.code and "trust" in signature(function).parameters:
            given["trust"] = True  # never from the spec: only the command line gives it
        try:
            return function(**given)
        except MiError as err:
            raise err.at(node.span) from None

    def _given(self, ref: str, args: tuple[tuple[str, Any], ...], node: ir.Node) -> Any:
        function = self.functions.get(ref)
        if function is None:
            name = ref.split(":")[1]
            raise fail(
                "MI0601",
                f"nothing is bound to `{name}`",
                node.span,
                help=f'hand it over from Python: midsl.run(spec, bind={{"{name}": ...}})',
            )
        return function(**{k: self.decode(v) for k, v in args})

    def decode(self, value: Any) -> Any:
        """An encoded argument (see ``midsl.sema.calls.encode``) as Python has it."""
        if isinstance(value, tuple):
            tag, *items = value
            if tag == "list":
                return [self.decode(v) for v in items]
            if tag == "record":
                return {k: self.decode(v) for k, v in items}
            raise AssertionError(f"an argument tagged {tag}")
        if isinstance(value, ir.Tokenizer):
            found = self.loaded(ir.start_of(value.model)).tokenizer
            if found is None:
                raise fail(
                    "MI0503",
                    "the model has no tokenizer",
                    value.span,
                    label="needed here",
                    help="give the model one: `tokenizer: ...`",
                )
            return found
        if isinstance(value, ir.Extern):
            if value.digest not in self.externs:
                self.externs[value.digest] = self._call(value.ref, value.args, value)
            return self.externs[value.digest]
        if isinstance(value, ir.Data):
            return self.dataset(value)
        if isinstance(value, ir.Part):
            return self.part(value)
        if isinstance(value, (ir.Model, ir.Train)):
            return self.loaded(value)
        return value


def learned_from(*roots: ir.Node) -> Iterator[ir.Node]:
    """The data sets that trainings and fits take."""
    for node in ir.walk(*roots):
        inside: tuple[ir.Node, ...] = ()
        if isinstance(node, ir.Train):
            inside = (node.data, node.model)
        elif isinstance(node, ir.Fit):
            inside = (node.loss, *node.reads)
        yield from (n for n in ir.walk(*inside) if isinstance(n, ir.Data))
        yield from learned_from(*inside)


def check_bound(
    source: SourceFile,
    binder: Binder,
    params: Mapping[str, str] | None = None,
    tests: Callable[[str], bool] | None = None,
    given: Given | None = None,
) -> Checked:
    """Check a spec with what there really is; before that with files alone, so that nothing is loaded for one
    that is wrong by itself.

    Raises:
        MiError: what the files alone show to be wrong.
    """
    alone = check_source(source, FileFacts(), params, binder.reach.trust, tests=tests, given=given).require()
    if binder.limit:
        binder.whole |= {n.digest for n in learned_from(*alone.roots)}
    return check_source(source, binder, params, binder.reach.trust, tests=tests, given=given)
