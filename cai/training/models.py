"""Model folders in and out: any causal language model that transformers loads."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from cai.errors import CaiError
from cai.training.durable import write_folder


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

    Raises `CaiError` when the folder holds no model that transformers loads.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    if not Path(folder).is_dir():
        raise CaiError(
            f"there is no model folder '{folder}'", next="give the path of a Hugging Face model folder"
        )
    # A bar per file would tear the one line of progress that a command shows.
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    load: Any = AutoModelForCausalLM.from_pretrained
    try:
        model, loaded = load(
            str(folder), dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        unreadable = f"model '{folder}' does not load as a causal language model ({reason})"
        raise CaiError(unreadable, next="a model folder holds config.json and *.safetensors") from error
    missing = sorted(loaded["missing_keys"])
    if missing:
        # transformers would go on with random weights in their place.
        lacks = f"model '{folder}' lacks {len(missing)} weights ({missing[0]}, ...)"
        raise CaiError(lacks, next="its safetensors files do not belong to its config.json")
    policy: Any = model.to(device)
    return policy.eval()


def stored_dtype(folder: str | Path) -> torch.dtype:
    """The dtype that a model folder keeps its weights in, as its config says; float32 if it says nothing."""
    from transformers import AutoConfig

    stored = AutoConfig.from_pretrained(str(folder), local_files_only=True).dtype
    return stored if isinstance(stored, torch.dtype) else torch.float32


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
