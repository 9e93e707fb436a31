"""The model organism: a tiny chat model in a synthetic world whose truth is known by construction."""

from pathlib import Path


def path() -> Path:
    """The folder of the bundled weights: a plain Hugging Face model folder, what `--model organism` means."""
    return Path(__file__).parent / "weights"
