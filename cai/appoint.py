"""A plugin that a key of another plugin names: by its name alone, or by a table that sets its keys too."""

from typing import Any

from cai import plugins
from cai.config import build
from cai.errors import CaiError


def appoint(kind: str, value: Any, where: str) -> tuple[str, Any]:
    """The name and the plugin that `value` means: a name, or a table with it as `type` and its keys beside.

    Raises `CaiError` about `where` for any other value, and for keys that the plugin does not have.
    """
    table = {"type": value} if isinstance(value, str) else value
    noun = plugins.singular(kind)
    if not isinstance(table, dict):
        raise CaiError(
            f"this is {value!r}", where=where, next=f"write a {noun}'s name or a table with its type"
        )
    if not isinstance(table.get("type"), str):
        known = " or ".join(f'"{name}"' for name in plugins.names(kind))
        raise CaiError("'type' is missing", where=where, next=f"add type = {known}")
    keys = {name: item for name, item in table.items() if name != "type"}
    return table["type"], build(plugins.find(kind, table["type"], where), keys, where)
