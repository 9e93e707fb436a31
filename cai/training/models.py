"""Model folders in and out: any causal language model that transformers loads."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from cai.errors import CaiError
from cai.training.durable import write_folder


@dataclass(frozen=True, kw_only=True)
class ModelKind:
    """What an objective trains.

    `load(folder, device)` gives the model as training starts, in float32; `finish(model, tokenizer, ends)`
    settles before it is saved what follows from `ends`, the ids that ended what it learned from.
    """

    load: Callable[[Path, str], Any]
    finish: Callable[[Any, Any, set[int]], None]


def device_called(name: str) -> str:
    """The device of that name; "auto" is the GPU if there is one. Raises `CaiError` if it is not there."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind == "cpu" and not number:
        return name
    if kind == "cuda" and (not number or number.isdecimal()):
        if int(number or 0) < torch.cuda.device_count():
            return name
        raise CaiError(f"there is no device '{name}' here", next='use device = "cpu" or "auto"')
    raise CaiError(f"device '{name}' is unknown", next="known: auto, cpu, cuda, cuda:0")


def load_policy(folder: str | Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Any:
    """The causal language model of a Hugging Face folder, dropout off, every parameter trainable.

    Raises `CaiError` when the folder holds no model that transformers loads, or a reward model.
    """
    from transformers import AutoModelForCausalLM

    if is_classifier(folder):
        # Its language-model head may be gone, or be tied to the embeddings and load without a word.
        scoring = f"model '{folder}' gives scores, not text: it is a reward model or a classifier"
        raise CaiError(scoring, next="give a language model, or use it where a reward model is read")
    model, missing = read_model(AutoModelForCausalLM, folder, "a causal language model", dtype)
    if missing:
        raise lacking(folder, missing)
    policy: Any = model.to(device)
    return policy.eval()


def read_model(
    auto: Any, folder: str | Path, noun: str, dtype: torch.dtype, **config: Any
) -> tuple[Any, list[str]]:
    """The model of a folder through a transformers auto class, and the weights that the folder lacks.

    Raises `CaiError`, which calls the model `noun`, when it does not load.
    """
    from transformers.utils import logging

    _require_folder(folder)
    # A bar per file would tear the one line of progress that a command shows; what is missing is reported.
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        model, loaded = auto.from_pretrained(
            str(folder),
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            **config,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        unreadable = f"model '{folder}' does not load as {noun} ({reason})"
        raise CaiError(unreadable, next="a model folder holds config.json and *.safetensors") from error
    finally:
        logging.set_verbosity(verbosity)
    return model, sorted(loaded["missing_keys"])


def lacking(folder: str | Path, missing: list[str]) -> CaiError:
    """The error for weights that transformers would go on without, with random ones in their place."""
    lacks = f"model '{folder}' lacks {len(missing)} weights ({missing[0]}, ...)"
    return CaiError(lacks, next="its safetensors files do not belong to its config.json")


def is_classifier(folder: str | Path) -> bool:
    """Whether the config of a model folder says that its head gives scores of a sequence."""
    try:
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # Whoever loads the folder says what is wrong with it.
        return False
    named = config.get("architectures") or () if isinstance(config, dict) else ()
    return any(str(name).endswith("ForSequenceClassification") for name in named)


def _require_folder(folder: str | Path) -> None:
    if not Path(folder).is_dir():
        raise CaiError(
            f"there is no model folder '{folder}'", next="give the path of a Hugging Face model folder"
        )


def stop_at(policy: Any, tokenizer: Any, ends: set[int]) -> None:
    """Let generation stop at the end-of-turn tokens that were learned; a base model's own list lacks them."""
    listed = policy.generation_config.eos_token_id
    known = {listed} if isinstance(listed, int) else set(listed or ())
    if not ends <= known:
        policy.generation_config.eos_token_id = sorted(known | ends)


POLICY = ModelKind(load=lambda folder, device: load_policy(folder, device=device), finish=stop_at)


def stored_dtype(folder: str | Path) -> torch.dtype:
    """The dtype that a model folder keeps its weights in, as its config says; float32 if it says nothing."""
    from transformers import AutoConfig

    stored = AutoConfig.from_pretrained(str(folder), local_files_only=True).dtype
    return stored if isinstance(stored, torch.dtype) else torch.float32


def context_of(model: Any) -> int:
    """The most tokens that the model was made for."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(limit, int):
        raise CaiError("the model's config has no max_position_embeddings", next="add it to config.json")
    return limit


def save_model(
    model: Any, tokenizer: Any, folder: Path, extras: Callable[[Path], None] = lambda folder: None
) -> None:
    """Write a plain Hugging Face folder (safetensors, tokenizer, chat template), whole or not at all.

    `extras` may add files of its own before the folder gets its name.
    Raises `CaiError` if the folder is there already.
    """
    if folder.exists():
        raise CaiError("there is something here already", where=str(folder), next="choose another name")

    def write(temporary: Path) -> None:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        extras(temporary)

    write_folder(folder, write)
