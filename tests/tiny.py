"""Tiny models and tokenizers for tests: random weights, a byte-level vocabulary, chat templates."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|end|>"]

# BOS in the template, the turn ended by EOS.
LLAMA = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}<<SYS>>{{ m['content'] }}<</SYS>>"
    "{% elif m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
# A newline after every end-of-turn token.
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# A newline after end-of-turn, then EOS once after the whole conversation.
TRAILING = (
    "{{ bos_token }}{% for m in messages %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% else %}{{ eos_token }}{% endif %}"
)
TEMPLATES = {"llama": LLAMA, "chatml": CHATML, "trailing": TRAILING}


def tokenizer(template: str | None = CHATML, merges: tuple[tuple[str, str], ...] = ()) -> Any:
    """Byte-level BPE: 6 special tokens, 256 bytes, and the merges given."""
    pieces = [
        *SPECIAL,
        *sorted(pre_tokenizers.ByteLevel.alphabet()),
        *(left + right for left, right in merges),
    ]
    vocab = {piece: at for at, piece in enumerate(pieces)}
    raw = Tokenizer(BPE(vocab=vocab, merges=list(merges)))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=SPECIAL[3:],
        name_or_path="tiny",
    )
    wrapped.chat_template = template
    return wrapped


def model(seed: int = 0, dtype: torch.dtype = torch.float32, vocab: int = 262, width: int = 16) -> Any:
    """A random two-layer Llama of 16 dimensions with tied embeddings and a context of 128."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        initializer_range=0.5,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).to(dtype).eval()


def folder(path: Path, seed: int = 0, template: str | None = CHATML, width: int = 16) -> Path:
    """A model folder on disk."""
    model(seed, width=width).save_pretrained(path)
    tokenizer(template).save_pretrained(path)
    return path
