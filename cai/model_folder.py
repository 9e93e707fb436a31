"""What a model's name means: a folder, a bundled model, or a repository on the Hugging Face hub. No torch."""

import importlib
from pathlib import Path

from cai.adapter import base_of, is_adapter
from cai.errors import CaiError, suggest

# Models that come with cai: name -> the function that says where its folder is.
BUNDLED = {"organism": "cai.organism:path"}
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
# All that decides how text and ids turn into each other.
TOKENIZER_FILES = (
    *TOKENIZERS,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "chat_template.jinja",
)
WHOLE = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")


def resolve(name: str, where: str | None = None) -> Path:
    """The folder of the model called `name`.

    A folder of the user's own goes before a bundled name, and that before a hub id "org/name", which is
    downloaded unless HF_HUB_OFFLINE is set. Raises `CaiError`: there is no such model, or its folder lacks
    its config, weights or tokenizer.
    """
    folder = Path(name)
    if name and folder.is_dir():
        return _whole(folder, name, where)
    if name and folder.exists():
        raise CaiError(
            f"model '{name}' is a file", where=where, next="give the folder that holds config.json"
        )
    if name in BUNDLED:
        module, _, function = BUNDLED[name].partition(":")
        return _whole(Path(getattr(importlib.import_module(module), function)()), name, where)
    if _is_hub_id(name):
        return _whole(_download(name, where), name, where)
    hint = suggest(name, BUNDLED)
    raise CaiError(f"there is no model '{name}'", where=where, next=f"give a folder or a hub id ({hint})")


def tokenizer_folder(name: str, where: str | None = None) -> Path:
    """The folder with the tokenizer of the model called `name`; of a hub id nothing else is downloaded.

    Raises `CaiError` when there is none.
    """
    folder = Path(name)
    if not folder.is_dir():
        if name in BUNDLED or not _is_hub_id(name):
            return resolve(name, where)
        folder = _download(name, where, ("config.json", *TOKENIZER_FILES))
    if not any((folder / file).is_file() for file in TOKENIZERS):
        raise CaiError(f"'{name}' holds no tokenizer", where=where, next="give the model's folder or hub id")
    return folder


def _whole(folder: Path, name: str, where: str | None) -> Path:
    """`folder`, if it holds what a model needs, or what an adapter does whose base does."""
    if is_adapter(folder):
        base_of(folder)
    elif not (folder / "config.json").is_file():
        raise _lacking(name, "config.json", "a model folder is what save_pretrained() writes", where)
    if not any(folder.glob("*.safetensors")):
        raise _lacking(name, "safetensors", "its weights must be *.safetensors files", where)
    if not any((folder / file).is_file() for file in TOKENIZERS):
        raise _lacking(name, "tokenizer", "its folder needs tokenizer.json and tokenizer_config.json", where)
    return folder


def _lacking(name: str, what: str, way: str, where: str | None) -> CaiError:
    return CaiError(f"model '{name}' has no {what}", where=where, next=way)


def _is_hub_id(name: str) -> bool:
    parts = name.split("/")
    return len(parts) == 2 and all(part.replace("-", "").replace("_", "").replace(".", "") for part in parts)


def _download(name: str, where: str | None, files: tuple[str, ...] = WHOLE) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(files)))
    except LocalEntryNotFoundError as error:
        offline = f"there is no folder '{name}', and the hub cannot be reached for a model of that name"
        raise CaiError(
            offline, where=where, next="check the path, or go online and unset HF_HUB_OFFLINE"
        ) from error
    except (HFValidationError, HfHubHTTPError) as error:
        absent = f"there is no folder '{name}', and the hub has no such model that you may read"
        raise CaiError(
            absent, where=where, next="check the path or the hub id; log in if it is gated"
        ) from error
