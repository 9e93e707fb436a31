"""Exact chat tokenisation, shared by the engines and the trainer.

The ids of a prompt are the chat template's own, and the ids of a training example begin with the ids of its
prompt: what is trained on is what generation will see. Text is only ever tokenised the way the template's
own output is (nothing added), so a BOS that the template writes is there once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cai.errors import CaiError
from cai.records import Message
from cai.segments import ids_of

Messages = Sequence[Message]
TrainOn = Literal["last", "all"]


@dataclass(frozen=True, kw_only=True)
class Example:
    """A tokenised conversation: `mask[i]` says whether the model shall learn to write `ids[i]`."""

    ids: tuple[int, ...]
    mask: tuple[bool, ...]


def load_tokenizer(folder: str | Path, chat_template: Path | None = None) -> Any:
    """The tokenizer of a Hugging Face model folder, with the chat template of a file if one is given.

    Raises `CaiError` when the folder holds no tokenizer or when there is no chat template.
    """
    from transformers import AutoTokenizer

    if not Path(folder).is_dir():
        raise CaiError(
            f"there is no model folder '{folder}'", next="give the path of a Hugging Face model folder"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        missing = f"model '{folder}' has no tokenizer that transformers can load"
        raise CaiError(missing, next="its folder needs tokenizer.json and tokenizer_config.json") from error
    if chat_template is not None:
        tokenizer.chat_template = _read_template(chat_template)
    _require_template(tokenizer)
    return tokenizer


def encode_prompt(tokenizer: Any, messages: Messages, prefix: str = "") -> list[int]:
    """The ids that generation starts from: the template's generation prompt, then `prefix`.

    `prefix` is the beginning of the assistant's turn, which the model continues.
    Raises `CaiError` for an empty conversation, one that ends with the assistant, or one the template
    refuses.
    """
    [ids] = encode_prompts(tokenizer, messages, (prefix,))
    return ids


def encode_prompts(tokenizer: Any, messages: Messages, prefixes: Sequence[str]) -> list[list[int]]:
    """`encode_prompt` for each of several beginnings of the assistant's turn; the template is filled once."""
    _check_ends(messages, "user")
    text = _render(tokenizer, messages, prompt=True)
    ids = ids_of(tokenizer, text)
    return [_continue(tokenizer, text, ids, prefix) for prefix in prefixes]


def encode_example(tokenizer: Any, messages: Messages, train_on: TrainOn = "last") -> Example:
    """A conversation that ends with the assistant, as ids and the mask of what is learned.

    The ids are the template's own up to the end-of-turn token of the last turn, which is learned too; only
    where those do not begin with the prompt's own ids (a tokeniser that merges across the boundary, a
    template that writes past turns otherwise) are they the prompt's ids followed by the answer's. "last"
    learns the final assistant turn, "all" every one.
    Raises `CaiError` for an empty conversation, one that does not end with the assistant, one the template
    refuses, a template that ends no turn with a special token, and, for "all", one that rewrites earlier
    turns.
    """
    _check_ends(messages, "assistant")
    ids, start = _through_turn(tokenizer, messages)
    mask = [False] * start + [True] * (len(ids) - start)
    if train_on == "all":
        for at, message in enumerate(messages[:-1]):
            if message["role"] == "assistant":
                _mark_turn(tokenizer, messages[: at + 1], ids, mask)
    return Example(ids=tuple(ids), mask=tuple(mask))


def control_token(tokenizer: Any, messages: Messages) -> str | None:
    """The first special token that is spelled out inside a message's own text, if any.

    Such text would pose as the frame: the tokenizer reads "<|im_end|>" in a message as the end of the turn.
    """
    special = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    contents = [message["content"] for message in messages]
    return next((token for token in special if any(token in content for content in contents)), None)


def _through_turn(tokenizer: Any, messages: Messages) -> tuple[list[int], int]:
    """Ids through the end-of-turn token of the final assistant turn, and where that turn begins in them."""
    prompt_text = _render(tokenizer, messages[:-1], prompt=True)
    text = _render(tokenizer, messages, prompt=False)
    prompt = ids_of(tokenizer, prompt_text)
    if text.startswith(prompt_text):
        ids = _continue(tokenizer, prompt_text, prompt, text[len(prompt_text) :])
        return ids[: _turn_end(tokenizer, ids, len(prompt))], len(prompt)
    whole = ids_of(tokenizer, text)
    end = _turn_end(tokenizer, whole, 0)
    return [*prompt, *ids_of(tokenizer, messages[-1]["content"]), whole[end - 1]], len(prompt)


def _mark_turn(tokenizer: Any, messages: Messages, ids: list[int], mask: list[bool]) -> None:
    """Set `mask` for an earlier assistant turn, the last of `messages`, in the whole conversation."""
    turn, start = _through_turn(tokenizer, messages)
    if ids[: len(turn)] != turn:
        rewrites = (
            f"{_template_of(tokenizer)} rewrites earlier turns, so not all of them can be learned in one row"
        )
        raise CaiError(rewrites, next='use train_on = "last"')
    mask[start : len(turn)] = [True] * (len(turn) - start)


def _turn_end(tokenizer: Any, ids: list[int], start: int) -> int:
    """One past the end-of-turn token: the first special token after the last token of text."""
    special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    text_end = len(ids)
    while text_end > start and (
        ids[text_end - 1] in special or not tokenizer.decode([ids[text_end - 1]]).strip()
    ):
        text_end -= 1
    for at in range(text_end, len(ids)):
        if ids[at] in special:
            return at + 1
    unended = f"{_template_of(tokenizer)} ends the assistant's turn with no special token"
    raise CaiError(unended, next="the model could not learn to stop; pass --chat-template FILE")


def _continue(tokenizer: Any, text: str, ids: list[int], more: str) -> list[int]:
    """The ids of `text + more`, made to begin with `ids`, the ids of `text`."""
    if not more:
        return ids
    joint = ids_of(tokenizer, text + more)
    return joint if joint[: len(ids)] == ids else [*ids, *ids_of(tokenizer, more)]


def _render(tokenizer: Any, messages: Messages, *, prompt: bool) -> str:
    from jinja2.exceptions import TemplateError

    _require_template(tokenizer)
    turns = list(messages)
    try:
        text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt)
    except TemplateError as error:
        refusal = f"{_template_of(tokenizer)} refuses this conversation ({error})"
        raise CaiError(refusal, next="leave out what it cannot hold, or pass --chat-template FILE") from error
    for message in turns:
        if message["role"] == "system" and message["content"].strip() not in text:
            drops = f"{_template_of(tokenizer)} leaves out the system message"
            raise CaiError(drops, next="put it into the first user message, or pass --chat-template FILE")
    return text


def _check_ends(messages: Messages, role: Literal["user", "assistant"]) -> None:
    if not messages:
        raise CaiError("the conversation is empty", next="give it at least one message")
    last = messages[-1]["role"]
    if role == "user" and last == "assistant":
        raise CaiError("the conversation ends with the assistant", next="end it with a user message")
    if role == "assistant" and last != "assistant":
        raise CaiError(f"the conversation ends with role '{last}'", next="end it with the assistant's answer")
    if role == "assistant" and len(messages) == 1:
        raise CaiError("the conversation has no prompt", next="put a user message before the answer")


def _require_template(tokenizer: Any) -> None:
    if not tokenizer.chat_template:
        missing = f"model '{tokenizer.name_or_path}' has no chat template"
        raise CaiError(missing, next="pass --chat-template FILE, or use a chat model")


def _template_of(tokenizer: Any) -> str:
    return f"the chat template of model '{tokenizer.name_or_path}'"


def _read_template(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CaiError(
            "the chat template cannot be read", where=str(path), next="give a Jinja text file"
        ) from error
