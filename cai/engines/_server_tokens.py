"""Asking vLLM's completions endpoint in token ids: our own exact tokenisation, and exact log-probs.

What it takes and gives is vLLM's CompletionRequest and CompletionResponse
(vllm/entrypoints/openai/completion/protocol.py, 0.32).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from cai.chat import encode_prompt
from cai.engines import Reply, Request
from cai.engines._reading import Part, parts, sums
from cai.engines._requests import Reading, Writing, answer_of, end_tokens, prepare, tokens_of
from cai.engines._server_plan import (
    Body,
    Call,
    Lacking,
    Malformed,
    Plan,
    Usage,
    choice_of,
    finish_of,
    number_of,
    only,
    usage_of,
)

PATH = "/completions"
ONLY_VLLM = "set tokenizer only where every endpoint is vllm serve (tested with 0.32), or leave it out"
# The server would else take them from the model's generation_config.json, where they mix with the recipe's.
PLAIN = {"min_p": 0.0, "repetition_penalty": 1.0}


@dataclass(frozen=True, kw_only=True)
class _Read:
    """The log-probs that one call told."""

    logps: Mapping[tuple[int, ...], float]
    usage: Usage


class TokenWay:
    """The same token ids as the local engine's and vLLM's in-process one, so the same answers."""

    def __init__(self, model: str, tokenizer: Any, window: int) -> None:
        self._model, self._tokenizer, self._window = model, tokenizer, window
        # The server adds those of the model's generation config.
        self._ends = sorted(end_tokens(tokenizer, None))

    def plan(self, request: Request) -> Plan:
        task = prepare(self._tokenizer, request, self._window)
        if isinstance(task, Writing):
            read = partial(self._text, task)
            return Plan(calls=(Call(path=PATH, body=self._writing(task), read=read),), join=only)
        return Plan(
            calls=tuple(self._part(task.prompt, part) for part in parts(task)),
            join=partial(self._joined, task),
        )

    def canary(self) -> Call:
        ids = encode_prompt(self._tokenizer, ({"role": "user", "content": "Hello"},))
        return Call(path=PATH, body=self._body(ids, 1), read=choice_of)

    def _body(self, ids: Sequence[int], limit: int) -> dict[str, Any]:
        return {
            "model": self._model,
            "prompt": list(ids),
            "add_special_tokens": False,
            "max_tokens": limit,
            **PLAIN,
        }

    def _writing(self, task: Writing) -> Body:
        want = task.sampling
        return self._body(task.prompt, task.limit) | {
            "temperature": want.temperature,
            "top_p": want.top_p,
            "top_k": want.top_k,
            "seed": task.seed,
            "stop": list(want.stop),
            "stop_token_ids": self._ends,
            "return_token_ids": True,
        }

    def _text(self, task: Writing, body: Body) -> Reply:
        choice = choice_of(body)
        ids = choice.get("token_ids")
        if ids is None:
            raise Lacking("no token ids", ONLY_VLLM)
        if not isinstance(ids, list) or not all(type(id) is int and 0 <= id < 1 << 31 for id in ids):
            raise Malformed("its answer has token ids that are none")
        finish, error = finish_of(choice)
        if error:
            return self._reply([usage_of(body)], error=error)
        text = answer_of(self._tokenizer, task, tuple(ids))
        return self._reply([usage_of(body)], text=text, tokens=tuple(ids), finish=finish)

    def _part(self, prompt: tuple[int, ...], part: Part) -> Call:
        body = self._body(prompt + part.after, 1) | {
            "temperature": 0.0,
            "logprobs": len(part.tokens),
            "logprob_token_ids": list(part.tokens),
            "return_tokens_as_token_ids": True,
        }
        if part.whole:
            body["prompt_logprobs"] = 0
        read = partial(_logps, len(prompt), part)
        return Call(path=PATH, body=body, read=read, wants_logprobs=True)

    def _joined(self, task: Reading, reads: Sequence[_Read]) -> Reply:
        known = {ids: logp for read in reads for ids, logp in read.logps.items()}
        usages = [read.usage for read in reads]
        return self._reply(usages, logps=sums(task, known), tokens=tokens_of(task, ()))

    def _reply(self, usages: Sequence[Usage], **answer: Any) -> Reply:
        return Reply(
            model=self._model,
            prompt_tokens=sum(usage.prompt for usage in usages),
            cached_tokens=sum(usage.cached for usage in usages),
            new_tokens=sum(usage.new for usage in usages),
            **answer,
        )


def _logps(start: int, part: Part, body: Body) -> _Read:
    """What a call for `part` tells, its prompt `start` tokens long."""
    choice = choice_of(body)
    finish_of(choice)
    told = choice.get("logprobs")
    top = told.get("top_logprobs") if isinstance(told, dict) else None
    first = top[0] if isinstance(top, list) and top else None
    if not isinstance(first, dict):
        raise Lacking("no log-probs of given tokens", ONLY_VLLM)
    known: dict[tuple[int, ...], float] = {}
    for token in part.tokens:
        if f"token_id:{token}" not in first:
            raise Lacking("no log-probs of given tokens", ONLY_VLLM)
        known[(*part.after, token)] = number_of(first[f"token_id:{token}"])
    if part.whole:
        before = choice.get("prompt_logprobs")
        if not isinstance(before, list) or len(before) != start + len(part.after):
            raise Lacking("no log-probs of its prompt", ONLY_VLLM)
        for at, token in enumerate(part.after):
            entry = before[start + at]
            found = entry.get(str(token)) if isinstance(entry, dict) else None
            known[part.after[: at + 1]] = number_of(found.get("logprob") if isinstance(found, dict) else None)
    return _Read(logps=known, usage=usage_of(body))
