"""What a model folder or a chat template is, as one digest. No torch."""

from hashlib import sha256
from pathlib import Path

from cai.adapter import base_of, is_adapter
from cai.errors import CaiError
from cai.records import digest

NAMED = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "adapter_config.json",
)
SHORT = 12  # digits of a digest that label a reply
WHOLE_UP_TO = 1 << 30
SAMPLES, SAMPLE_BYTES = 64, 1 << 20


def template_digest(chat_template: Path | None) -> str | None:
    """The digest of a chat template's text, None where the tokenizer's own is used."""
    return digest(chat_template.read_text(encoding="utf-8")) if chat_template else None


def weights_digest(folder: str | Path) -> str:
    """128 bits of SHA-256 over a model folder's config, tokenizer and safetensors, as 32 hexadecimal digits.

    That of an adapter's folder counts its base as well. A file over 1 GiB counts by its size and 64 evenly
    spaced blocks of 1 MiB, its first and last among them.
    Raises `CaiError` when the folder is no Hugging Face model with safetensors.
    """
    root = Path(folder)
    tensors = sorted(root.glob("*.safetensors"))
    adapter = is_adapter(root)
    if not (adapter or (root / "config.json").is_file()) or not tensors:
        missing = f"'{folder}' is no model folder"
        raise CaiError(missing, next="a model folder holds config.json and *.safetensors")
    total = sha256()
    for path in [*(root / name for name in NAMED if (root / name).is_file()), *tensors]:
        total.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        total.update(_content(path))
    if adapter:
        total.update(weights_digest(base_of(root)).encode())
    return total.hexdigest()[:32]


def _content(path: Path) -> bytes:
    size = path.stat().st_size
    inner = sha256()
    with path.open("rb") as file:
        if size <= WHOLE_UP_TO:
            while block := file.read(SAMPLE_BYTES):
                inner.update(block)
        else:
            for at in range(SAMPLES):
                file.seek((size - SAMPLE_BYTES) * at // (SAMPLES - 1))
                inner.update(file.read(SAMPLE_BYTES))
    return inner.digest()
