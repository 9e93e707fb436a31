"""What a plugin says of itself, read from its file: listing the stages must not cost their import."""

import ast
import importlib
from pathlib import Path


def plugin_about(kind: str, name: str) -> str:
    """The first sentence of a built-in plugin's module, without its full stop."""
    package = importlib.import_module(f"cai.{kind}")
    source = (Path(package.__path__[0]) / f"{name}.py").read_text(encoding="utf-8")
    text = ast.get_docstring(ast.parse(source)) or name
    return " ".join(text.split("\n\n")[0].split()).split(". ")[0].rstrip(".")
