"""Transformers models: from the hub, from a local folder, or with seeded random weights.

Attention goes through `scaled_dot_product_attention`, which the model graph understands best; families
that refuse it (Gemma 2; GPT-J before transformers 5.24) run their eager attention. Nothing from a
repository is executed: remote code needs `trust`, which only the command line gives, and weights load
without unpickling code.
"""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midsl.diagnostics.model import fail
from midsl.diagnostics.suggest import did_you_mean
from midsl.models.config import unknown_key
from midsl.models.facts import Facts
from midsl.models.hf_files import dtype_name, hf_facts, hf_sizes, read_config, read_json
from midsl.models.tokens import plain_tokenizer, tokenizer_at
from midsl.reach import may_read

if TYPE_CHECKING:
    from torch import nn

    from midsl.data.dataset import Tokenizer
    from midsl.models.loaded import LoadedModel

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "encoder.json")
_LOCAL = "pass a local folder to models.file, or fetch the model beforehand where there is a network"


def _transformers() -> Any:
    """Import transformers, quietly.

    Raises:
        MiError: MI0507 if it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise fail(
            "MI0507", "this model needs the transformers package", help='pip install "midsl[hf]"'
        ) from error
    logging: Any = transformers.utils.logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return transformers


def hf(
    id: str, revision: str = "main", dtype: str = "float32", offline: bool = False, trust: bool = False
) -> LoadedModel:
    """Load a model from the hub, or from a local folder if `id` is one.

    Args:
        id: ``"openai-community/gpt2"``, or a folder.
        revision: branch, tag or commit.
        dtype: of the weights and of the computation.
        offline: use the local cache only.
        trust: let the repository's own Python run; never settable from a spec.

    Raises:
        MiError: MI0507 if transformers is missing, the hub is out of reach or has no such model;
            MI0504, MI0508, MI0509, MI0510, MI0605 as `file`.
    """
    if Path(id).is_dir():
        return _from_folder(Path(id), dtype, trust)
    _transformers()
    return _from_folder(_fetch(id, revision, offline), dtype, trust)


def file(path: str, dtype: str = "float32", trust: bool = False) -> LoadedModel:
    """Load a model from a local folder: config.json, safetensors (or plain .bin) and tokenizer files.

    Raises:
        MiError: MI0504 if the folder or config is missing, MI0507 if transformers is, MI0508 if weights
            would run code, MI0509 if the configuration or dtype is not valid, MI0510 if the weights are
            damaged or do not fill the model, MI0605 if the repository's own code is needed.
    """
    return _from_folder(Path(path), dtype, trust)


def hf_random(
    type: str,
    config: Mapping[str, Any] | None = None,
    seed: int = 0,
    tokenizer: str = "",
    perturb: float = 0.0,
) -> LoadedModel:
    """Build any transformers causal language model with random weights; a seed gives the same ones.

    Args:
        type: the transformers model type: ``"gpt2"``, ``"llama"``, ``"gemma2"``, ...
        config: configuration keys of that family; the rest take its defaults.
        seed: draws the weights, as the family initialises them.
        tokenizer: a tokenizer's folder or file; without it tokens are integers.
        perturb: standard deviation of noise added to biases and norm weights, which a family
            initialises to 0 and 1.

    Raises:
        MiError: MI0507 if transformers is missing, MI0509 if type or config is not valid.
    """
    transformers = _transformers()
    import torch

    declared = dict(config or {})
    resolved = _resolve(transformers, type, declared)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _build(
            lambda attention: transformers.AutoModelForCausalLM.from_config(
                resolved,
                attn_implementation=attention,
                experts_implementation="batched_mm",
                dtype=torch.float32,
            ),
            f"hf_random type `{type}`",
            seed,
        )
        if perturb:
            with torch.no_grad():
                for weight in model.parameters():
                    if weight.ndim == 1:
                        weight.add_(torch.randn(weight.shape), alpha=perturb)
    vocab = int(model.get_output_embeddings().weight.shape[0])
    sizes = hf_sizes(model.config.to_dict())
    facts = hf_facts({"model_type": type, **declared}, "float32", sizes)
    return finish(model, facts, plain_tokenizer(vocab, path=tokenizer))


def _resolve(transformers: Any, type: str, declared: dict[str, Any]) -> Any:
    """Complete a configuration; transformers itself would take an unknown key without a word."""
    known_types = list(transformers.CONFIG_MAPPING)
    if type not in known_types:
        hint = did_you_mean(type, known_types) or f"the installed transformers knows {len(known_types)} types"
        raise fail("MI0509", f"transformers has no model type `{type}`", help=hint)
    plain = transformers.AutoConfig.for_model(type)
    known = {*plain.to_dict(), *plain.attribute_map} | set(inspect.signature(plain.__class__).parameters)
    for key in declared:
        if key not in known:
            raise unknown_key(key, known, f"{type}'s configuration")
    try:
        return transformers.AutoConfig.for_model(type, **declared)
    except Exception as error:  # each family checks in its own way
        raise fail(
            "MI0509",
            f"{type}'s configuration is not valid: {_line(error)}",
            help="compare with a configuration of the same kind from the hub",
        ) from error


def _build(make: Callable[[str], nn.Module], what: str, seed: int | None = None) -> Any:
    """Make a model with SDPA attention, or with eager attention where its family refuses that."""
    import torch

    try:
        return make("sdpa")
    except (ValueError, ImportError) as error:
        if "scaled_dot_product_attention" not in str(error):
            raise fail(
                "MI0509",
                f"{what} cannot be built: {_line(error)}",
                help="the message comes from transformers; try the configuration with it alone",
            ) from error
    except (TypeError, RuntimeError, AttributeError, ZeroDivisionError, AssertionError) as error:
        raise fail(
            "MI0509",
            f"{what} cannot be built: {_line(error)}",
            help="the message comes from transformers; try the configuration with it alone",
        ) from error
    if seed is not None:
        torch.manual_seed(seed)
    return make("eager")


def _from_folder(folder: Path, dtype: str, trust: bool) -> LoadedModel:
    """Load weights and tokenizer of a folder, local or in the hub's cache."""
    import torch

    config = read_config(folder)
    _stays_inside(folder)
    facts = hf_facts(config, dtype)
    transformers = _transformers()
    if "auto_map" in config and config["model_type"] not in transformers.CONFIG_MAPPING and not trust:
        raise fail(
            "MI0605",
            f"{folder} brings its own Python code, which would run",
            help="read that code, then allow it on the command line with --trust",
        )
    masked = any(str(name).endswith("ForMaskedLM") for name in config.get("architectures") or [])
    auto = transformers.AutoModelForMaskedLM if masked else transformers.AutoModelForCausalLM
    model, info = _read_weights(
        lambda attention: auto.from_pretrained(
            folder,
            attn_implementation=attention,
            experts_implementation="batched_mm",
            dtype=getattr(torch, dtype_name(dtype)),
            local_files_only=True,
            trust_remote_code=trust,
            output_loading_info=True,
        ),
        folder,
    )
    missing = sorted(info["missing_keys"]) or sorted(str(key) for key in info["mismatched_keys"])
    if missing:
        raise fail(
            "MI0510",
            f"the weights in {folder} do not fill the model: {len(missing)} tensors, first `{missing[0]}`",
            help="transformers would leave these random; is it a base model without a language-model head?",
        )
    sizes = hf_sizes(model.config.to_dict())
    return finish(model, hf_facts(config, dtype, facts.sizes | sizes), _tokenizer_in(folder))


def _stays_inside(folder: Path) -> None:
    """Refuse a folder whose files send the loader elsewhere: shards by paths, the base of an adapter."""
    for index in folder.glob("*.index.json"):
        shards = read_json(index).get("weight_map", {})
        for name in set(shards.values()) if isinstance(shards, dict) else ():
            may_read(folder / str(name))
    adapter = folder / "adapter_config.json"
    if adapter.exists():
        base = str(read_json(adapter).get("base_model_name_or_path") or "")
        if base and Path(base).exists():
            may_read(base)


def _read_weights(make: Callable[[str], tuple[nn.Module, Any]], folder: Path) -> tuple[Any, Any]:
    """Run a loader, SDPA first, and say what is wrong with the files if it fails."""
    from safetensors import SafetensorError

    for attention in ("sdpa", "eager"):
        try:
            return make(attention)
        except pickle.UnpicklingError as error:
            raise fail(
                "MI0508",
                f"the weights in {folder} are pickled and would run code: {_line(error)}",
                help="save them as safetensors: model.save_pretrained(folder, safe_serialization=True)",
            ) from error
        except SafetensorError as error:
            raise fail(
                "MI0510",
                f"the weights in {folder} are damaged: {_line(error)}",
                help="fetch or save the folder again",
            ) from error
        except OSError as error:
            raise fail(
                "MI0504",
                f"cannot read the weights in {folder}: {_line(error)}",
                help="download the folder again",
            ) from error
        except (ValueError, TypeError, RuntimeError, KeyError, AttributeError, AssertionError) as error:
            if attention == "sdpa" and "scaled_dot_product_attention" in str(error):
                continue
            raise fail(
                "MI0510",
                f"the model in {folder} cannot be loaded: {_line(error)}",
                help="download the folder again, or convert it to safetensors with transformers",
            ) from error
    raise AssertionError("eager attention is always there")


def _fetch(id: str, revision: str, offline: bool) -> Path:
    """Return the folder of a hub model's files, fetching what is not here yet.

    Raises:
        MiError: MI0507, saying whether the hub, the name, the revision or the permission is at fault.
    """
    from huggingface_hub import errors, snapshot_download

    try:
        folder = snapshot_download(
            id,
            revision=revision,
            local_files_only=offline,
            allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"],
        )
        if not any(Path(folder).glob("*.safetensors")):
            folder = snapshot_download(
                id, revision=revision, local_files_only=offline, allow_patterns=["*.bin", "*.json"]
            )
        return Path(folder)
    except errors.GatedRepoError as error:
        raise fail("MI0507", f"{id} asks for permission", help="accept its terms, then log in") from error
    except errors.RevisionNotFoundError as error:
        raise fail(
            "MI0507",
            f"{id} has no revision `{revision}`",
            help="take a branch, a tag or a commit that the hub lists; leave `revision` out for the newest",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise fail("MI0507", f"the hub has no model {id}", help="check the spelling, or log in") from error
    except errors.HFValidationError as error:
        raise fail("MI0507", f"`{id}` is neither a folder nor a hub name", help=_LOCAL) from error
    except errors.LocalEntryNotFoundError as error:
        what = "is not in the local cache" if offline else "is not here and the hub cannot be reached"
        raise fail("MI0507", f"{id} {what}", help=_LOCAL) from error
    except OSError as error:  # connection errors of every HTTP client derive from it
        raise fail("MI0507", f"{id} cannot be fetched: {_line(error)}", help=_LOCAL) from error


def _tokenizer_in(folder: Path) -> Tokenizer | None:
    """Return a folder's tokenizer, None if it has no tokenizer files."""
    if not any((folder / name).exists() for name in _TOKENIZER_FILES):
        return None
    return tokenizer_at(str(folder))


def finish(model: Any, facts: Facts, tokenizer: Tokenizer | None) -> LoadedModel:
    """Wrap a transformers model."""
    from midsl.models.loaded import HFForward, find_blocks, loaded

    takes_positions = "position_ids" in inspect.signature(model.forward).parameters
    blocks = find_blocks(model, facts.sizes.get("layer"))
    path = f"model.{blocks}" if blocks else None
    return loaded(facts, model, HFForward(model, takes_positions), tokenizer, path, facts.sizes.get("ctx"))


def _line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
