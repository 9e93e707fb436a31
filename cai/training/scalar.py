"""Reward models: a language model's backbone with one linear score, read at the end of the answer.

They are plain `*ForSequenceClassification` folders with one label, which transformers loads as they are.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cai.adapter import base_of, is_adapter
from cai.chat import Example, Messages, control_token, encode_example
from cai.errors import CaiError
from cai.training import lora
from cai.training.batches import Batch, collate, last_states
from cai.training.models import (
    ModelKind,
    context_of,
    frozen_dtype,
    is_classifier,
    lacking,
    load_policy,
    read_model,
)
from cai.training.reference import TOKENS_PER_BATCH, micros
from cai.training.settings import TrainSettings

NOUN = "a reward model"


def load_scorer(folder: str | Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Any:
    """The reward model of a folder, dropout off. Raises `CaiError` for any other folder, a policy's too."""
    if Path(folder).is_dir() and not is_classifier(folder):
        wrong = f"model '{folder}' is no reward model"
        raise CaiError(wrong, next="train one with 'cai train reward', and give its folder")
    if is_adapter(folder):
        # Its base may be a language model: the head is the adapter's.
        base, _ = _read(base_of(folder), dtype)
        return lora.load_merged(base, Path(folder)).to(device).eval()
    model, missing = _read(folder, dtype)
    if missing:
        raise lacking(folder, missing)
    return model.to(device).eval()


def start_scorer(folder: str | Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Any:
    """The reward model that training starts from, every parameter trainable, dropout off.

    Of a language model's folder it has the backbone, and a head of zeros: every answer starts at score 0,
    and the start is a function of the folder alone. Of a reward model's folder it is that model.
    Raises `CaiError` when the folder holds neither, or a model for which transformers has no scalar head.
    """
    if is_classifier(folder):
        return load_scorer(folder, dtype, device)
    if is_adapter(folder):
        model = start_scorer(base_of(folder), dtype, device)
        model.base_model.load_state_dict(load_policy(folder, dtype).base_model.state_dict())
        return model
    model, missing = _read(folder, dtype)
    head = {f"score.{name}" for name, _ in model.score.named_parameters()}
    if not head.issuperset(missing):
        raise lacking(folder, [name for name in missing if name not in head])
    with torch.no_grad():
        for parameter in model.score.parameters():
            parameter.zero_()
    return model.to(device).eval()


def start(folder: Path, device: str, settings: TrainSettings) -> Any:
    """`start_scorer`; with `settings.lora` an adapter learns and the head, in place of all weights."""
    if settings.lora is None:
        return start_scorer(folder, device=device)
    base = base_of(folder) if is_adapter(folder) else folder
    model = start_scorer(base, frozen_dtype(folder, settings), device)
    lora.attach(model, settings.lora, settings.seed, base)
    if base != folder:
        lora.learn_on(model, settings.lora, folder)
    return model


def pad_apart(model: Any, tokenizer: Any, ends: set[int]) -> None:
    """Give model and tokenizer a padding token that ends no answer.

    transformers reads the score at the last token that is no padding: with padding equal to the end of turn
    that would be one token early. Where no other special token is left there is no padding, and transformers
    takes one sequence at a time.
    """
    listed = (tokenizer.pad_token_id, *tokenizer.all_special_ids)
    apart = next((token for token in listed if token is not None and token not in ends), None)
    model.config.get_text_config().pad_token_id = apart
    tokenizer.pad_token = None if apart is None else tokenizer.convert_ids_to_tokens(apart)


REWARD = ModelKind(load=start, finish=pad_apart)


def final_scores(model: Any, batch: Batch) -> Tensor:
    """Score [B] of each sequence, at its last token, in float32 (or in float64 if the model is).

    The last token of every sequence is one that a language model would be trained on: its end of turn.
    """
    states = last_states(getattr(model, model.base_model_prefix), batch)
    wide = torch.promote_types(model.dtype, torch.float32)
    bias = None if model.score.bias is None else model.score.bias.to(wide)
    # Under autocast the head would be rounded to bfloat16, and near scores would be equal.
    with torch.autocast(states.device.type, enabled=False):
        return functional.linear(states.to(wide), model.score.weight.to(wide), bias).squeeze(1)


def scores(model: Any, tokenizer: Any, conversations: Sequence[Messages]) -> list[float]:
    """The reward model's score of each conversation, which ends with the assistant's answer, in order.

    `tokenizer` is the reward model's own.
    Raises `CaiError`, naming the conversation by its number from 1, for one that cannot be tokenised, spells
    out a control token or is longer than the model's context, and for a tokenizer of another model.
    """
    examples = [
        encode_scored(tokenizer, messages, f"conversation {at}")
        for at, messages in enumerate(conversations, 1)
    ]
    return score_examples(model, examples)


def encode_scored(tokenizer: Any, messages: Messages, where: str | None = None) -> Example:
    """The tokens of a conversation to be scored. Raises `CaiError` about `where` for one that cannot be."""
    spelled = control_token(tokenizer, messages)
    if spelled is not None:
        raise CaiError(f"its text spells out the control token '{spelled}'", where=where, next="take it out")
    try:
        return encode_example(tokenizer, messages)
    except CaiError as error:
        raise CaiError(error.what, where=where, next=error.next) from error


def score_examples(model: Any, examples: Sequence[Example]) -> list[float]:
    """The reward model's score of each tokenised conversation, in order, computed in batches of like length.

    Raises `CaiError` for one longer than the model's context and for ids that the model does not have.
    """
    _check_ids(model, examples)
    found = [0.0] * len(examples)
    for micro in micros(examples, TOKENS_PER_BATCH):
        batch = collate([examples[at] for at in micro], [str(at) for at in micro], model.device)
        with torch.no_grad():
            values = final_scores(model, batch).tolist()
        for at, value in zip(micro, values, strict=True):
            found[at] = value
    return found


def require_same_tokenizer(policy: Any, reward: Any) -> None:
    """Raise `CaiError` unless the tokenizers of a policy and a reward model give every token the same id.

    Text may pass between models of different tokenizers; ids, and heads started from one another, may not.
    """
    one, other = policy.get_vocab(), reward.get_vocab()
    if one == other:
        return
    differing = sorted(token for token in {*one, *other} if one.get(token) != other.get(token))
    differs = (
        f"reward model '{reward.name_or_path}' has another tokenizer than model '{policy.name_or_path}' "
        f"({len(other)} and {len(one)} tokens, {len(differing)} of them different)"
    )
    raise CaiError(differs, next="train a reward model from a model of the same family")


def _read(folder: str | Path, dtype: torch.dtype) -> tuple[Any, list[str]]:
    from transformers import AutoModelForSequenceClassification

    # A reward model's own number of labels is looked at, anyone else's head is made anew.
    labels = {} if is_classifier(folder) else {"num_labels": 1}
    model, missing = read_model(AutoModelForSequenceClassification, folder, NOUN, dtype, **labels)
    head = getattr(model, "score", None)
    if not isinstance(head, torch.nn.Linear):
        headless = f"model '{folder}' ({type(model).__name__}) has no linear head called 'score'"
        raise CaiError(headless, next="start from a decoder model: Llama, Qwen, Mistral, Gemma, GPT-2, ...")
    if head.out_features != 1:
        several = f"model '{folder}' gives {head.out_features} scores, and a reward model gives one"
        raise CaiError(several, next="start from a language model")
    return model, missing


def _check_ids(model: Any, examples: Sequence[Example]) -> None:
    limit = context_of(model)
    known = model.get_input_embeddings().num_embeddings
    for at, example in enumerate(examples, 1):
        where = f"conversation {at}"
        if len(example.ids) > limit:
            over = f"{len(example.ids)} tokens are more than the reward model's context of {limit}"
            raise CaiError(over, where=where, next="shorten it, or use a reward model with a longer context")
        if max(example.ids) >= known:
            foreign = f"token {max(example.ids)} is none of the reward model's {known}: another tokenizer's"
            raise CaiError(foreign, where=where, next="use the tokenizer in the reward model's own folder")
