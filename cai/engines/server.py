"""Models behind OpenAI-compatible endpoints: vllm serve, Ray Serve LLM, hosted ones; any number of them."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cai.config import execution, key
from cai.errors import CaiError
from cai.model_folder import TOKENIZER_FILES, tokenizer_folder
from cai.records import digest
from cai.weights import template_digest

if TYPE_CHECKING:
    from cai.engines._server_plan import Way
    from cai.engines._server_session import ServerSession

MOST = 1000  # a process may open about as many sockets


@dataclass(frozen=True, kw_only=True)
class Server:
    """Requests go to whichever endpoint has the least to do, as many at once as it takes.

    Without `tokenizer`, chat endpoints of any make: the template and the sampling defaults that the protocol
    has no word for (repetition penalty, ...) are theirs, an assistant's given beginning needs one that goes
    on from it (vllm serve), and options are read where they are among the 20 likeliest tokens. With it, vllm
    serve's completions endpoint in token ids: what is asked is then exactly what the other engines ask.
    Tries that fail are repeated on transport errors, timeouts, 429 and 5xx only.
    """

    model: str = key(help="the name that the endpoints serve it under")
    tokenizer: str = key("", help="its folder, bundled name or hub id, to ask in token ids; '': in messages")
    chat_template: Path | None = key(None, help="a Jinja file in place of the tokenizer's chat template")
    endpoints: tuple[str, ...] = execution((), help="base URLs, such as http://host:8000/v1")
    api_key_env: str = execution("", help="the environment variable that holds the key; '': there is none")
    concurrency: int = execution(128, help="the most requests in flight at one endpoint")
    timeout: float = execution(600.0, help="seconds that an answer may take")
    retries: int = execution(5, help="further tries of a request that fails while its endpoint works")
    patience: float = execution(120.0, help="seconds without any answer before a run is given up")

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError("'model' is empty; give the name that the endpoints serve")
        if not self.endpoints:
            raise ValueError('there is no endpoint; add endpoints = ["http://host:8000/v1"]')
        for url in self.endpoints:
            _check_url(url)
        if len(set(self.endpoints)) != len(self.endpoints):
            raise ValueError("an endpoint is given twice; take one of them out")
        if self.chat_template is not None and not self.tokenizer:
            raise ValueError("'chat_template' is used with 'tokenizer' only; else the endpoint's own is")
        if not 1 <= self.concurrency <= MOST:
            raise ValueError(f"concurrency = {self.concurrency}, it must be from 1 to {MOST}")
        if self.retries < 0:
            raise ValueError(f"retries = {self.retries}, it must not be negative")
        for name in ("timeout", "patience"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} = {getattr(self, name):g}, it must be above 0")

    def share(self) -> float:
        """The share of this machine's device that it takes."""
        return 0.0

    def open(self) -> "ServerSession":
        """Wait for the first endpoint to answer.

        Raises `CaiError`: none has after `patience` seconds, the key is missing or turned away, there is no
        such tokenizer, or the client is not installed.
        """
        api_key = _key(self.api_key_env)
        way_for = self._way()
        try:
            from cai.engines._server_session import ServerSession
        except ModuleNotFoundError as error:
            if error.name != "openai":
                raise
            raise CaiError(
                "openai is not installed", next='pip install "cai[server]", or use another engine'
            ) from error
        return ServerSession(
            self.endpoints,
            way_for,
            model=self.model,
            key=api_key,
            key_env=self.api_key_env,
            concurrency=self.concurrency,
            timeout=self.timeout,
            retries=self.retries,
            patience=self.patience,
        )

    def identity(self) -> dict[str, Any]:
        """The weights are known by name only: whoever serves them answers for them."""
        return {
            "engine": "server",
            "model": self.model,
            "tokenizer": _digest(tokenizer_folder(self.tokenizer)) if self.tokenizer else None,
            "chat_template": template_digest(self.chat_template),
        }

    def _way(self) -> "Callable[[int | None], Way]":
        """What makes the way of asking, the tokenizer loaded."""
        if not self.tokenizer:
            from cai.engines._server_chat import ChatWay

            return lambda window: ChatWay(self.model)
        from cai.chat import load_tokenizer
        from cai.engines._server_tokens import TokenWay

        tokenizer = load_tokenizer(tokenizer_folder(self.tokenizer), self.chat_template)
        return lambda window: TokenWay(self.model, tokenizer, window or sys.maxsize)


def _check_url(url: str) -> None:
    """Refuse, with a `ValueError`, what is no base URL, and what would put a secret into errors."""
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        whole = False
    if whole and (parts.username is not None or parts.query or parts.fragment):
        raise ValueError("an endpoint's URL holds more than a path; keys go into the variable of api_key_env")
    if not whole:
        raise ValueError(f"endpoint '{url}' is no URL; write http://host:8000/v1")


def _key(variable: str) -> str:
    """The key in an environment variable; it is named in errors, never shown."""
    if not variable:
        return ""
    found = os.environ.get(variable, "").strip()
    if not found:
        raise CaiError(f"the environment variable '{variable}' holds no key", next=f"export {variable}=...")
    if not found.isascii() or not found.isprintable() or " " in found:
        raise CaiError(f"the environment variable '{variable}' holds no key but a text", next="mend it")
    return found


def _digest(folder: Path) -> str:
    """Of a folder's tokenizer and chat template."""
    files = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    return digest([(file.name, sha256(file.read_bytes()).hexdigest()) for file in files])
