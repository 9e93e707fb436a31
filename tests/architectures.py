"""Random two-layer models of several families in float64, for what must hold whatever the architecture."""

from typing import Any

import torch
import transformers

SIZE = {
    "vocab_size": 262,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.5,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# Family, and what differs: grouped heads in all but GPT-2, and then biases, tied weights, windows, caps.
PACKED = {
    "llama": ("Llama", {"attention_bias": True, "tie_word_embeddings": True}),
    "qwen2": ("Qwen2", {}),
    "qwen2-window": ("Qwen2", {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}),
    "qwen3": ("Qwen3", {"head_dim": 8}),
    "mistral-window": ("Mistral", {"sliding_window": 6, "head_dim": 4}),
    "granite": ("Granite", {"logits_scaling": 3.0}),
    "gemma2-uncapped": ("Gemma2", {"head_dim": 8, "attn_logit_softcapping": None, "sliding_window": 8}),
    "gpt2": ("GPT2", {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 128}),
}
# A cap on attention; attention in chunks that only a mask says; positions in the attention scores; a layer
# that is no attention.
PADDED = {
    "gemma2": ("Gemma2", {"head_dim": 8, "final_logit_softcapping": 2.0}),
    "llama4-chunks": (
        "Llama4",
        {"head_dim": 8, "intermediate_size_mlp": 32, "num_local_experts": 2, "attention_chunk_size": 16},
    ),
    "bloom": ("Bloom", {"n_head": 2, "n_layer": 2}),
    "lfm2-convolution": ("Lfm2", {"layer_types": ["conv", "full_attention"]}),
}
# What a model does after its head.
BENT = ("granite", "gemma2-uncapped", "gemma2")


def model(name: str, seed: int = 0, dtype: torch.dtype = torch.float64) -> Any:
    family, fields = {**PACKED, **PADDED}[name]
    config = getattr(transformers, "Llama4TextConfig" if family == "Llama4" else f"{family}Config")
    sizes = {} if family in ("GPT2", "Bloom") else SIZE
    common = {"vocab_size": 262, "hidden_size": 16} if family == "Bloom" else {"vocab_size": 262}
    head = "GPT2LMHeadModel" if family == "GPT2" else f"{family}ForCausalLM"
    torch.manual_seed(seed)
    return getattr(transformers, head)(config(**{**common, **sizes, **fields})).to(dtype).eval()
