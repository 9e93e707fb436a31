"""A request in words -> what the model has to do, in token ids; and back from ids to the reply's text."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cai.chat import encode_example, encode_prompt, encode_prompts
from cai.engines import Options, Request, Sampling, Score, Worth
from cai.errors import CaiError
from cai.records import Message, Messages
from cai.segments import ids_of

log = logging.getLogger(__name__)

CONTEXT = 4  # ids of a prefix that decoding needs to see, so that a space between it and the answer stays


@dataclass(frozen=True, kw_only=True)
class Writing:
    """Sample up to `limit` tokens after `prompt`. `context` is the end of the assistant's given prefix."""

    prompt: tuple[int, ...]
    limit: int
    sampling: Sampling
    seed: int
    context: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Reading:
    """log P of each of `answers` after `prompt`."""

    prompt: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]


class Unanswerable(Exception):
    """This request cannot be answered; the message is the reply's `error`."""


def prepare(tokenizer: Any, request: Request, window: int) -> Writing | Reading:
    """The request in token ids. Raises `Unanswerable`, and `CaiError` for what no language model can give."""
    want = request.want
    if isinstance(want, Worth):
        raise no_score()
    try:
        if isinstance(want, Sampling):
            return _writing(tokenizer, request, want, window)
        return _reading(tokenizer, request, want, window)
    except CaiError as error:
        raise Unanswerable(str(error)) from error


def no_score() -> CaiError:
    """The error for a score that is asked of a language model."""
    return CaiError(
        "a reward model's score is asked for, and the engine's model writes text",
        next="give the folder of a reward model ('cai train reward' makes one) and --engine local",
    )


def text_of(tokenizer: Any, written: tuple[int, ...], context: tuple[int, ...] = ()) -> str:
    """The text of sampled ids; special tokens are left out."""
    if context:
        given = _decode(tokenizer, context)
        both = _decode(tokenizer, context + written)
        if both.startswith(given):
            return both[len(given) :]
    return _decode(tokenizer, written)


def answer_of(tokenizer: Any, task: Writing, written: tuple[int, ...]) -> str:
    """The reply's text: what was written, up to the first stop string."""
    text = text_of(tokenizer, written, task.context)
    cut = cut_at_stop(text, task.sampling.stop)
    return text if cut is None else cut


def tokens_of(task: Writing | Reading, written: tuple[int, ...]) -> tuple[int, ...]:
    """The ids that a reply is about: those written, or those of the one answer that was read."""
    if isinstance(task, Writing):
        return written
    return task.answers[0] if len(task.answers) == 1 else ()


def end_tokens(tokenizer: Any, listed: int | Sequence[int] | None) -> frozenset[int]:
    """The tokens that end an answer: those `listed` in the model's generation config, EOS, and the template's
    end of turn.
    """
    ends = {listed} if listed is None or isinstance(listed, int) else set(listed)
    ends.add(tokenizer.eos_token_id)
    turn: Messages = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})
    try:
        ends.add(encode_example(tokenizer, turn).ids[-1])
    except CaiError:
        # A template that ends no turn with a token of its own: the others have to do.
        log.debug("no end-of-turn token", exc_info=True)
    return frozenset(end for end in ends if end is not None)


def cut_at_stop(text: str, stop: tuple[str, ...]) -> str | None:
    """`text` up to the first stop string in it, or None when it holds none."""
    found = [text.index(word) for word in stop if word in text]
    return text[: min(found)] if found else None


def _writing(tokenizer: Any, request: Request, want: Sampling, window: int) -> Writing:
    _check(want)
    prompt = _prompt(tokenizer, request)
    room = window - len(prompt)
    if room < 1:
        raise Unanswerable(f"prompt has {len(prompt)} tokens, the model's window is {window}")
    return Writing(
        prompt=prompt,
        limit=min(want.max_tokens, room),
        sampling=want,
        seed=request.seed,
        context=prompt[-CONTEXT:] if request.prefix else (),
    )


def _reading(tokenizer: Any, request: Request, want: Options | Score, window: int) -> Reading:
    if isinstance(want, Score):
        prompt = _prompt(tokenizer, request)
        answers = [_whole_answer(tokenizer, request, want.completion, prompt)]
    else:
        prompt, answers = _options(tokenizer, request, want.options)
    longest = len(prompt) + max(map(len, answers))
    if longest > window:
        raise Unanswerable(f"prompt and answer have {longest} tokens, the model's window is {window}")
    return Reading(prompt=prompt, answers=tuple(answers))


def _prompt(tokenizer: Any, request: Request) -> tuple[int, ...]:
    prompt = tuple(encode_prompt(tokenizer, request.messages, request.prefix))
    _check_prompt(prompt)
    return prompt


def _check_prompt(prompt: tuple[int, ...]) -> None:
    if not prompt:
        raise Unanswerable("the prompt is empty")


def _options(
    tokenizer: Any, request: Request, options: Sequence[str]
) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """The prompt's ids, and those of each option after it."""
    if not options:
        raise Unanswerable("there are no options")
    beginnings = [request.prefix, *(request.prefix + option for option in options)]
    prompt, *joints = map(tuple, encode_prompts(tokenizer, request.messages, beginnings))
    _check_prompt(prompt)
    answers = [
        joint[len(prompt) :] if joint[: len(prompt)] == prompt else tuple(ids_of(tokenizer, option))
        for option, joint in zip(options, joints, strict=True)
    ]
    for option, answer in zip(options, answers, strict=True):
        if not answer:
            raise Unanswerable(f"option '{option}' has no tokens")
    return prompt, answers


def _whole_answer(
    tokenizer: Any, request: Request, completion: str, prompt: tuple[int, ...]
) -> tuple[int, ...]:
    answer: Message = {"role": "assistant", "content": request.prefix + completion}
    ids = encode_example(tokenizer, [*request.messages, answer]).ids
    return ids[len(prompt) :] if ids[: len(prompt)] == prompt else (*ids_of(tokenizer, completion), ids[-1])


def _decode(tokenizer: Any, ids: tuple[int, ...]) -> str:
    text: str = tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text


def _check(want: Sampling) -> None:
    faults = {
        f"max_tokens is {want.max_tokens}, it must be at least 1": want.max_tokens < 1,
        f"temperature is {want.temperature}, it must not be negative": not want.temperature >= 0,
        f"top_p is {want.top_p}, it must be above 0 and at most 1": not 0 < want.top_p <= 1,
        f"top_k is {want.top_k}, it must not be negative": want.top_k < 0,
        "a stop string is empty": "" in want.stop,
    }
    for fault, is_so in faults.items():
        if is_so:
            raise Unanswerable(fault)
