"""The one runner: streams items through one stage, or several, against engines, and writes each row at once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cai.engines import Session
from cai.rows import Item
from cai.stages import Asking


class Worker(Protocol):
    """A stage or an eval: what makes rows of an item."""

    def work(self, item: Any) -> Asking[list[Any]] | list[Any]: ...


@dataclass(frozen=True, kw_only=True)
class Link:
    """A stage, where its rows go, and who answers its requests.

    `identity` is everything that decides the rows (see `cai.runs`). `session` is called at the first request, never
    when there is nothing to ask; links that return the same session share it. The caller closes sessions.
    """

    stage: Worker
    path: Path
    identity: Mapping[str, Any]
    session: Callable[[], Session] | None = None
    redo: bool = False

    @property
    def name(self) -> str:
        return self.path.stem


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a link is: items done, rows and rejects made, tokens generated in `seconds` of this process."""

    name: str
    items: int
    rows: int
    rejects: int
    tokens: int
    seconds: float


def run(
    links: Sequence[Link],
    source: Iterable[Item],
    *,
    on_progress: Callable[[Sequence[Progress]], None] | None = None,
) -> None:
    """Feed `source` to the first link and every row it makes to the next, at once, until all files are complete.

    What is already done is not asked again; a link whose file is complete under the same identity costs nothing.
    Raises `CaiError` when an output was made under another identity or is being written elsewhere.
    """
    raise NotImplementedError
