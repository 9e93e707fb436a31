"""Whether a model can be driven in packed steps: tried, not guessed."""

from typing import Any

import torch
from torch import Tensor

from cai.engines import Sampling
from cai.engines._attention import CELL, NAME, KeyValues, UnsupportedAttention, drive
from cai.engines._packing import Job, pack, prompt_inputs, token_inputs
from cai.engines._requests import Writing

PROMPT, MORE = 20, 4
TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4, torch.bfloat16: 5e-2}  # of the largest logit


def packs(model: Any) -> bool:
    """Switch `model` to packed attention if that computes what its own does, and say whether it does."""
    if not getattr(model, "_supports_attention_backend", False):
        return False
    own = model.config._attn_implementation
    if own == NAME:
        return True
    vocabulary = model.config.get_text_config().vocab_size
    ids = tuple((7 * at + 3) % vocabulary for at in range(PROMPT + MORE))
    with torch.inference_mode():
        asked = torch.tensor([ids], device=model.device)
        expected = model(input_ids=asked, use_cache=False).logits[0, PROMPT - 1 :].float()
        drive(model)
        try:
            off = (_packed_logits(model, ids).float() - expected).abs().max()
            fits = bool(off <= TOLERANCE[model.dtype] * expected.abs().max())
        except (UnsupportedAttention, TypeError):  # TypeError: its layers do not pass the plan on
            fits = False
    if not fits:
        model.set_attn_implementation(own)
    return fits


def _packed_logits(model: Any, ids: tuple[int, ...]) -> Tensor:
    """The logits after the prompt and after each of the tokens that follow it, (1 + MORE, vocabulary)."""
    cache = KeyValues(CELL)
    cache.reserve(len(ids))
    probe = Writing(prompt=ids[:PROMPT], limit=MORE, sampling=Sampling(), seed=0)
    packed = pack([Job(ticket=0, task=probe)], slot=0)
    rows = [model(**prompt_inputs(packed, cache, model.device)).logits[0, 0]]
    for length in range(PROMPT, len(ids)):
        rows.append(model(**token_inputs([ids[length]], [length], cache, model.device)).logits[0, 0])
    return torch.stack(rows)
