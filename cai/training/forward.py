"""One pass of a model over a batch: packed where the model can be driven so, padded where it cannot.

Which it is, is tried once for each model, not guessed: a small batch both ways must come out equal.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from cai.engines._attention import NAME, UnsupportedAttention, drive
from cai.training.attention import Segments
from cai.training.layers import is_compiled, learning

# The largest difference from the padded pass, as a fraction of the largest number.
TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
PROBE = ((12, 5, 3), (9,))

_packs: "WeakKeyDictionary[Any, bool]" = WeakKeyDictionary()
_plain: "WeakKeyDictionary[Any, bool]" = WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """B sequences in T tokens that lie end to end as `segments` says; what sequences share is there once."""

    ids: Tensor  # [T] int64
    places: Tensor  # [T] int64: position of each token in its own sequence
    segments: Segments
    order: Tensor  # [B] int64: which row each sequence is, in the order of the segments

    def padded_index(self) -> Tensor:
        """Where each token of each row lies, [B, longest]; -1 past a row's end."""
        spans: list[list[int]] = []
        start = 0
        for prefix, *tails in self.segments.groups:
            shared = list(range(start, start + prefix))
            start += prefix
            for tail in tails or [0]:
                spans.append([*shared, *range(start, start + tail)])
                start += tail
        longest = max(map(len, spans))
        index = torch.tensor([span + [-1] * (longest - len(span)) for span in spans])
        rows = torch.empty_like(index)
        rows[self.order.cpu()] = index
        return rows.to(self.ids.device)


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """N of the tokens of a batch: where each lies in the T tokens, and which row it is read for."""

    at: Tensor  # [N] int64
    rows: Tensor  # [N] int64


def states(model: Any, sequences: Sequences, tokens: Tokens) -> Tensor:
    """Last hidden states [N, H] of some tokens: what the head reads.

    `model` is a causal language model, or a backbone that has no head.
    """
    if model.get_output_embeddings() is None:
        with _pass(model, sequences, tokens) as (inputs, flat):
            hidden: Tensor = model(**inputs).last_hidden_state
        return hidden.flatten(0, 1)[flat]
    kept: list[Tensor] = []

    def keep(hidden: Tensor) -> Tensor:
        kept.append(hidden)
        return hidden[:1]

    _through_head(model, sequences, tokens, keep)
    return kept[0]


def states_and_logits(model: Any, sequences: Sequences, tokens: Tokens) -> tuple[Tensor, Tensor]:
    """`states` and `logits` of one pass."""
    kept: list[Tensor] = []

    def keep(hidden: Tensor) -> Tensor:
        kept.append(hidden)
        return hidden

    found = _through_head(model, sequences, tokens, keep)
    return kept[0], found


def logits(model: Any, sequences: Sequences, tokens: Tokens) -> Tensor:
    """Logits [N, V] of some tokens.

    The head's input is narrowed on its way in, so that whatever the model does after its head (scaling,
    capping) still happens, and nothing of size [T, V] is ever made.
    """
    return _through_head(model, sequences, tokens, lambda hidden: hidden)


def plain_head(model: Any) -> torch.nn.Linear | None:
    """The model's head if it is one matrix (and a bias) and the logits are what it puts out; None if not."""
    head = model.get_output_embeddings()
    # A subclass may do more (LoRA).
    if type(head) is not torch.nn.Linear:
        return None
    if model not in _plain:
        _plain[model] = _puts_out_its_head(model, head)
    if _plain[model] and isinstance(model, FSDPModule):
        # The weight of a sharded model is gathered ahead of the pass, which would do it anyway.
        model.unshard()
    return head if _plain[model] else None


def packs(model: Any) -> bool:
    """Whether the packed pass computes what the padded one does."""
    if model not in _packs:
        _packs[model] = _packed_is_right(model)
    # Packed attention has no dropout.
    return _packs[model] and not (model.training and getattr(model.config, "attention_dropout", 0.0))


def known_to_pack(model: Any, whether: bool) -> None:
    """Say of a model what was found of another with the same layers. One in parts must not be tried: a pass
    that fails leaves it where no other can follow.
    """
    _packs[model] = whether


@contextmanager
def _pass(model: Any, sequences: Sequences, tokens: Tokens) -> Iterator[tuple[dict[str, Any], Tensor]]:
    """The arguments of the model's pass, and where its output, flattened, has those tokens [N]."""
    if not packs(model):
        index = sequences.padded_index()
        flat = tokens.rows * index.shape[1] + sequences.places[tokens.at]
        with learning(model):
            yield _padded(sequences, index), flat
        return
    own = model.config._attn_implementation
    drive(model)
    plan = sequences.segments
    if is_compiled(model):
        from cai.training.compiled import Apart

        plan = Apart(groups=plan.groups)
    with learning(model) as again:
        try:
            yield _packed(sequences, plan), tokens.at
        finally:
            # The layers that run again do so in the backward pass, when this is left.
            if not again:
                model.set_attn_implementation(own)


def _through_head(
    model: Any, sequences: Sequences, tokens: Tokens, take: Callable[[Tensor], Tensor]
) -> Tensor:
    """The model's logits for what `take` makes of the head's narrowed input."""
    with _pass(model, sequences, tokens) as (inputs, flat):

        def narrow(_: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (take(given[0].flatten(0, 1)[flat]), *given[1:])

        hook = model.get_output_embeddings().register_forward_pre_hook(narrow)
        try:
            found: Tensor = model(**inputs).logits
        finally:
            hook.remove()
    return found


def _packed(sequences: Sequences, plan: Segments) -> dict[str, Any]:
    ids, places = sequences.ids[None], sequences.places[None]
    return {"input_ids": ids, "position_ids": places, "plan": plan, "use_cache": False}


def _padded(sequences: Sequences, index: Tensor) -> dict[str, Any]:
    """Padded on the right, and no mask: under causal attention no real token sees a later one."""
    return {"input_ids": sequences.ids[index.clamp(min=0)], "use_cache": False}


@dataclass(frozen=True, kw_only=True)
class _Watched(Segments):
    """Notes which layer asked for which window."""

    windows: dict[int, int]

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int
    ) -> Tensor:
        self.windows[layer] = window
        return super().attend(layer, query, key, value, scaling, window)


def _packed_is_right(model: Any) -> bool:
    if not getattr(model, "_supports_attention_backend", False):
        return False
    own = model.config._attn_implementation
    probe = _probe(model)
    index = probe.padded_index()
    windows: dict[int, int] = {}
    with torch.no_grad(), torch.autocast(model.device.type, enabled=False):
        # An engine may have switched the model to packed attention for good.
        if own == NAME:
            model.set_attn_implementation("eager")
        expected = _hidden(model, _padded(probe, index))
        drive(model)
        try:
            plan = _Watched(groups=probe.segments.groups, windows=windows)
            found = _hidden(model, _packed(probe, plan))[0][index.clamp(min=0)]
        except (UnsupportedAttention, TypeError):  # TypeError: its layers do not pass the plan on
            return False
        finally:
            model.set_attn_implementation(own)
    off = (found - expected)[index >= 0].abs().max()
    near = bool(off <= TOLERANCE[model.dtype] * expected[index >= 0].abs().max())
    return near and windows == _windows(model.config.get_text_config())


def _windows(config: Any) -> dict[int, int | None]:
    """What each layer's window should be, by the config (0: none); None where attention is of another kind.

    The probe is shorter than most windows, so a model that keeps its window in its mask alone would not show.
    """
    size = getattr(config, "sliding_window", None) or 0
    if getattr(config, "use_sliding_window", True) is False:
        size = 0
    usual = ["sliding_attention" if size else "full_attention"] * config.num_hidden_layers
    known = {"full_attention": 0, "sliding_attention": size}
    kinds = getattr(config, "layer_types", None) or usual
    return {layer: known.get(kind) for layer, kind in enumerate(kinds)}


def _puts_out_its_head(model: Any, head: torch.nn.Linear) -> bool:
    """Tried on states far larger than real ones, so that a cap on the logits shows."""
    probe = _probe(model)
    large: list[Tensor] = []

    def enlarge(hidden: Tensor) -> Tensor:
        large.append(hidden * (1e4 / hidden.abs().max()))
        return large[0]

    every = Tokens(at=torch.arange(9, device=model.device), rows=torch.zeros_like(probe.ids[:9]))
    with torch.no_grad(), torch.autocast(model.device.type, enabled=False):
        found = _through_head(model, probe, every, enlarge)
        expected = head(large[0])
    return torch.allclose(found, expected.to(found.dtype), rtol=1e-3, atol=0)


def _hidden(model: Any, inputs: Mapping[str, Any]) -> Tensor:
    """States before the head, in float32 or wider."""
    head = model.get_output_embeddings()
    if head is None:
        hidden: Tensor = model(**inputs).last_hidden_state
    else:
        kept: list[Tensor] = []
        hook = head.register_forward_pre_hook(lambda _, given: kept.append(given[0]))
        try:
            model(**inputs)
        finally:
            hook.remove()
        hidden = kept[0]
    return hidden.to(torch.promote_types(hidden.dtype, torch.float32))


def _probe(model: Any) -> Sequences:
    segments = Segments(groups=PROBE)
    _, _, places = segments.places
    vocabulary = model.config.get_text_config().vocab_size
    ids = [(7 * at + 3) % vocabulary for at in range(len(places))]
    order = torch.arange(sum(max(1, len(group) - 1) for group in PROBE))
    on = model.device
    return Sequences(
        ids=torch.tensor(ids, device=on),
        places=torch.tensor(places, device=on),
        segments=segments,
        order=order.to(on),
    )
