"""Model folders in and out: any causal language model that transformers loads."""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from cai.adapter import adapter_config, base_of, is_adapter
from cai.errors import CaiError
from cai.training import lora
from cai.training.durable import write_folder
from cai.training.settings import TrainSettings


@dataclass(frozen=True, kw_only=True)
class ModelKind:
    """What an objective trains.

    `load(folder, device, settings)` gives the model as training starts; what learns is in float32.
    `saved(model)` is what of it is saved, and `finish(saved, tokenizer, ends)` settles before that what
    follows from `ends`, the ids that ended what it learned from.
    """

    load: Callable[[Path, str, TrainSettings], Any]
    finish: Callable[[Any, Any, set[int]], None]
    saved: Callable[[Any], Any] = lambda model: model


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

    Of an adapter's folder it is the base with the adapter merged into it.
    Raises `CaiError` when the folder holds no model that transformers loads, or a reward model.
    """
    policy, base = _with_base(Path(folder), dtype)
    if base != Path(folder):
        policy = lora.load_merged(policy, Path(folder))
    return policy.to(device).eval()


def start_policy(folder: Path, device: str, settings: TrainSettings) -> Any:
    """The language model that training starts from, as `load_policy` loads it, dropout off.

    Every parameter learns, or with `settings.lora` those of an adapter alone.
    Raises what `load_policy` does, and `CaiError` for an adapter that cannot be had.
    """
    if settings.lora is None:
        return load_policy(folder, device=device)
    policy, base = _with_base(folder, frozen_dtype(folder, settings))
    policy.to(device).eval()
    lora.attach(policy, settings.lora, settings.seed, base)
    if base != folder:
        lora.learn_on(policy, settings.lora, folder)
    return policy


def frozen_dtype(folder: Path, settings: TrainSettings) -> torch.dtype:
    """What the weights that do not learn are kept in: float32, or bfloat16 if they are used and stored so."""
    narrow = settings.dtype == "bfloat16" and stored_dtype(folder) == torch.bfloat16
    return torch.bfloat16 if narrow else torch.float32


def apart(model: Any) -> Any:
    """A copy that learns apart from the model; the tensors that do not learn are the model's own."""
    frozen: dict[int, Any] = {id(one): one for one in model.parameters() if not one.requires_grad}
    return copy.deepcopy(model, frozen)


def _with_base(folder: Path, dtype: torch.dtype) -> tuple[Any, Path]:
    """The language model that a folder's adapter stands on, and its folder; without an adapter its own."""
    from transformers import AutoModelForCausalLM, GenerationConfig

    if is_classifier(folder):
        # Its language-model head may be gone, or be tied to the embeddings and load without a word.
        scoring = f"model '{folder}' gives scores, not text: it is a reward model or a classifier"
        raise CaiError(scoring, next="give a language model, or use it where a reward model is read")
    base = base_of(folder) if is_adapter(folder) else folder
    model, missing = read_model(AutoModelForCausalLM, base, "a causal language model", dtype)
    if missing:
        raise lacking(base, missing)
    if base != folder and (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(str(folder))
    return model, base


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
    """Whether the config of a model's folder, or an adapter's, says that it gives scores of a sequence."""
    if is_adapter(folder):
        return adapter_config(folder).get("task_type") == lora.SCORING
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


POLICY = ModelKind(load=start_policy, finish=stop_at)


def stored_dtype(folder: str | Path) -> torch.dtype:
    """The dtype that a model folder keeps its weights in, as its config says; float32 if it says nothing.

    Of an adapter's folder it is the base's.
    """
    from transformers import AutoConfig

    whole = base_of(folder) if is_adapter(folder) else folder
    stored = AutoConfig.from_pretrained(str(whole), local_files_only=True).dtype
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

    Of a model with an adapter it is the adapter's, as peft writes it.

    `extras` may add files of its own before the folder gets its name.
    Raises `CaiError` if the folder is there already.
    """
    if folder.exists():
        raise CaiError("there is something here already", where=str(folder), next="choose another name")

    def write(temporary: Path) -> None:
        lora.save(model, temporary) if lora.is_adapted(model) else model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        extras(temporary)

    write_folder(folder, write)
