"""The directory is the registry: `find("stages", "critique")` is the class `Critique` in
cai/stages/critique.py.

A plugin of the user's own is named by where it lives: "package.module:Class" or "path/to/file.py:Class".
Either way the file that holds the class is the only file touched.
"""

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from cai.errors import CaiError, suggest


def names(kind: str) -> list[str]:
    """The built-in plugins of a kind, by file name, without importing them."""
    package = importlib.import_module(f"cai.{kind}")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if module.name[0] != "_")


def find(kind: str, name: str, where: str | None = None) -> type[Any]:
    """The class of a plugin.

    Raises `CaiError` when there is no such built-in, module, file or class; an error inside the plugin's own
    code comes through as it is.
    """
    if ":" in name:
        module_name, _, class_name = name.rpartition(":")
        module = _outside(module_name, where)
        return _attribute(module, class_name, name, where)
    if name not in names(kind):
        noun = singular(kind)
        article = "an" if noun[0] in "aeiou" else "a"
        missing = f"no {noun} is called '{name}'"
        hint = suggest(name, names(kind))
        raise CaiError(
            missing, where=where, next=f"{hint} ({article} {noun} of your own: 'package.module:Class')"
        )
    class_name = "".join(part.capitalize() for part in name.split("_"))
    return _attribute(importlib.import_module(f"cai.{kind}.{name}"), class_name, name, where)


def function(name: str, where: str | None = None) -> tuple[Callable[..., Any], str]:
    """The function "package.module:name" or "path/to/file.py:name", and the digest of the file it is in.

    Raises `CaiError` when there is no such module, file or function.
    """
    module_name, _, attribute = name.rpartition(":")
    module = _outside(module_name, where)
    found = getattr(module, attribute, None)
    if not callable(found) or isinstance(found, type):
        functions = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise CaiError(
            f"'{name}' has no function '{attribute}'", where=where, next=suggest(attribute, functions)
        )
    return found, sha256(Path(str(module.__file__)).read_bytes()).hexdigest()[:32]


def singular(kind: str) -> str:
    """ "stages" -> "stage"."""
    return kind.removesuffix("s")


def _attribute(module: ModuleType, class_name: str, name: str, where: str | None) -> type[Any]:
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise CaiError(
            f"'{name}' has no class '{class_name}'", where=where, next=suggest(class_name, classes)
        )
    return found


def _outside(module_name: str, where: str | None) -> ModuleType:
    if module_name.endswith(".py"):
        return _from_file(Path(module_name), where)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # A missing import inside the plugin is the plugin's own error and must not read as "no such plugin".
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise CaiError(
            f"there is no module '{module_name}'", where=where, next="is it installed or on PYTHONPATH?"
        ) from error


def _from_file(path: Path, where: str | None) -> ModuleType:
    if not path.is_file():
        raise CaiError(f"there is no file '{path}'", where=where, next="give the path of a Python file")
    name = f"cai_plugin_{sha256(str(path.resolve()).encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
