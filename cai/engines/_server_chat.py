"""Asking a chat endpoint: messages as they are, the template is the endpoint's."""

from collections.abc import Mapping
from typing import Any

from cai.engines import Options, Reply, Request, Sampling, Worth
from cai.engines._requests import Unanswerable, no_score
from cai.engines._server_plan import (
    Body,
    Call,
    Lacking,
    Malformed,
    Plan,
    choice_of,
    finish_of,
    number_of,
    only,
    usage_of,
)
from cai.errors import CaiError

PATH = "/chat/completions"
TOP = 20  # log-probs that the protocol allows
# What vLLM calls going on from the beginning of the assistant's turn.
CONTINUED = {"add_generation_prompt": False, "continue_final_message": True}


class ChatWay:
    """Whatever the endpoint is made for, at the price that options can be read only where they are among its
    likeliest tokens, and given answers not at all.
    """

    def __init__(self, model: str) -> None:
        self._model = model

    def plan(self, request: Request) -> Plan:
        want = request.want
        if isinstance(want, Sampling):
            call = Call(path=PATH, body=self._sampling(request, want), read=self._text)
        elif isinstance(want, Options):
            call = self._options(request, want)
        elif isinstance(want, Worth):
            raise no_score()
        else:
            raise CaiError(
                "a chat endpoint tells no log P of a given answer",
                next="set tokenizer to the model's folder or hub id, for endpoints of vllm serve",
            )
        return Plan(calls=(call,), join=only)

    def canary(self) -> Call:
        messages = [{"role": "user", "content": "Hello"}]
        body = {"model": self._model, "messages": messages, "max_tokens": 1}
        return Call(path=PATH, body=body, read=self._text)

    def _body(self, request: Request) -> dict[str, Any]:
        messages: list[Any] = list(request.messages)
        if not messages:
            raise Unanswerable("the conversation is empty; give it at least one message")
        if not request.prefix:
            return {"model": self._model, "messages": messages}
        begun = {"role": "assistant", "content": request.prefix}
        return {"model": self._model, "messages": [*messages, begun], **CONTINUED}

    def _sampling(self, request: Request, want: Sampling) -> Body:
        body = self._body(request) | {
            "max_tokens": want.max_tokens,
            "temperature": want.temperature,
            "top_p": want.top_p,
            "seed": request.seed,
        }
        # The protocol knows neither an empty list nor top_k, so they are sent only where they say something.
        if want.stop:
            body["stop"] = list(want.stop)
        if want.top_k:
            body["top_k"] = want.top_k
        return body

    def _text(self, body: Body) -> Reply:
        choice = choice_of(body)
        message = choice.get("message")
        # A model that thinks to the limit says null.
        if not isinstance(message, dict) or not isinstance(message.get("content", 0), str | None):
            raise Malformed("its answer has no message")
        finish, error = finish_of(choice)
        return self._reply(body, text="" if error else message["content"] or "", finish=finish, error=error)

    def _options(self, request: Request, want: Options) -> Call:
        if not want.options:
            raise Unanswerable("there are no options")
        # At temperature 1 all of them agree on what a log-prob is of.
        how = {"max_tokens": 1, "temperature": 1.0, "top_p": 1.0, "logprobs": True, "top_logprobs": TOP}

        def read(body: Body) -> Reply:
            known = _top(choice_of(body))
            for option in want.options:
                if option not in known:
                    return self._reply(body, error=_not_among(option, len(known)))
            return self._reply(body, logps=tuple(known[option] for option in want.options))

        return Call(path=PATH, body=self._body(request) | how, read=read, wants_logprobs=True)

    def _reply(self, body: Body, **answer: Any) -> Reply:
        usage = usage_of(body)
        return Reply(
            model=self._model,
            prompt_tokens=usage.prompt,
            cached_tokens=usage.cached,
            new_tokens=usage.new,
            **answer,
        )


def _top(choice: Mapping[str, Any]) -> dict[str, float]:
    """The likeliest first tokens, with their log-probs. Raises `Lacking` where the endpoint tells none."""
    finish_of(choice)
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    first = content[0] if isinstance(content, list) and content else None
    told = first.get("top_logprobs") if isinstance(first, dict) else None
    if not isinstance(told, list) or not told:
        raise lacks_logprobs()
    known: dict[str, float] = {}
    for entry in told:
        if not isinstance(entry, dict) or not isinstance(entry.get("token"), str):
            raise Malformed("its answer has a log-prob of no token")
        # Tokens of other bytes may read alike; the likeliest is the one that is meant.
        token, logp = entry["token"], number_of(entry.get("logprob"))
        known[token] = max(logp, known.get(token, logp))
    return known


def _not_among(option: str, count: int) -> str:
    return (
        f"option '{option}' is not among the endpoint's {count} likeliest tokens; to have it read exactly, "
        "set tokenizer to the model's folder or hub id (for endpoints of vllm serve)"
    )


def lacks_logprobs(words: str = "") -> Lacking:
    """The error of an endpoint that tells no log-probs."""
    return Lacking(
        f"no log-probs{words}",
        "every judge that asks a language model reads them; use an endpoint that gives them (vllm serve), or "
        "a judge of your own that reads its verdict in the text ('package.module:Class')",
    )
