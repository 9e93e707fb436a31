"""The folder of a LoRA adapter (peft): what it is, and the model that it stands on. No torch."""

import json
from pathlib import Path
from typing import Any

from cai.errors import CaiError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# Written by cai beside what peft reads: the digest of the weights that the adapter was trained on.
BASE = "base.json"


def is_adapter(folder: str | Path) -> bool:
    """Whether a folder holds an adapter and no model of its own."""
    return (Path(folder) / CONFIG).is_file() and not (Path(folder) / "config.json").is_file()


def adapter_config(folder: str | Path) -> dict[str, Any]:
    """What adapter_config.json says. Raises `CaiError` when it is no LoRA adapter's."""
    path = Path(folder) / CONFIG
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _no_adapter(path) from error
    if not isinstance(found, dict) or found.get("peft_type") != "LORA":
        raise _no_adapter(path)
    return found


def base_of(folder: str | Path) -> Path:
    """The folder of the model that an adapter stands on.

    Raises `CaiError` when it is not there, is an adapter itself, or has other weights than the adapter was
    trained on (which is known of adapters that cai trained).
    """
    from cai.model_folder import resolve

    name = adapter_config(folder).get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise CaiError(
            "'base_model_name_or_path' is missing", where=str(Path(folder) / CONFIG), next="add it"
        )
    where = f"adapter '{folder}'"
    try:
        base = resolve(name)
    except CaiError as error:
        mend = f"put its base back, or correct base_model_name_or_path in its {CONFIG}"
        raise CaiError(error.what, where=where, next=mend) from error
    if is_adapter(base):
        raise CaiError(f"its base '{name}' is an adapter itself", where=where, next="merge that one first")
    _check_weights(Path(folder), base, name)
    return base


def name_of(folder: Path) -> tuple[str, str | None]:
    """How an adapter refers to the model in `folder`, and its revision if it came from the hub.

    A hub download is called by its hub id, since its folder is this machine's own.
    """
    for parent in folder.absolute().parents:
        if parent.name == "snapshots" and parent.parent.name.startswith("models--"):
            return parent.parent.name.removeprefix("models--").replace("--", "/", 1), folder.name
    return str(folder.absolute()), None


def _check_weights(folder: Path, base: Path, name: str) -> None:
    from cai.weights import weights_digest

    if not (folder / BASE).is_file():
        return
    trained_on = json.loads((folder / BASE).read_text(encoding="utf-8"))["weights"]
    if trained_on != weights_digest(base):
        changed = f"its base '{name}' has other weights than it was trained on"
        raise CaiError(changed, where=f"adapter '{folder}'", next="put the old ones back, or train it anew")


def _no_adapter(path: Path) -> CaiError:
    return CaiError(
        "this is no LoRA adapter", where=str(path), next="give what peft's save_pretrained() wrote"
    )
