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
    "gpt-neox": ("GPTNeoX", {}),
    "opt": ("OPT", {"ffn_dim": 32, "word_embed_proj_dim": 16}),
    "phi": ("Phi", {}),
    "phi3": ("Phi3", {}),
    "gemma3-window": ("Gemma3", {"head_dim": 8, "sliding_window": 6}),
    "olmo2": ("Olmo2", {}),
    "cohere2-window": ("Cohere2", {"head_dim": 4, "sliding_window": 6}),
    "glm4": ("Glm4", {"head_dim": 8}),
}
# A cap on attention; attention in chunks that only a mask says; positions in the attention scores; a layer
# that is no attention; code that knows its own attention alone.
PADDED = {
    "gemma2": ("Gemma2", {"head_dim": 8, "final_logit_softcapping": 2.0}),
    "llama4-chunks": (
        "Llama4",
        {"head_dim": 8, "intermediate_size_mlp": 32, "num_local_experts": 2, "attention_chunk_size": 16},
    ),
    "bloom": ("Bloom", {"n_head": 2, "n_layer": 2}),
    "lfm2-convolution": ("Lfm2", {"layer_types": ["conv", "full_attention"]}),
    "falcon": ("Falcon", {"num_kv_heads": 1}),
    "stablelm": ("StableLm", {}),
    "gptj": ("GPTJ", {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 128, "rotary_dim": 4}),
}
MOE = {"num_experts_per_tok": 1, "moe_intermediate_size": 16}
LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 4}
# What transformers computes in float32 at most: products of experts, a state space.
SINGLE = {
    "mixtral": ("Mixtral", {"num_local_experts": 2}),
    "qwen3-moe": ("Qwen3Moe", {"num_experts": 2, "head_dim": 8, **MOE}),
    "deepseek3-latent": (
        "DeepseekV3",
        {"n_routed_experts": 4, "n_group": 2, "first_k_dense_replace": 1, "topk_group": 1, **MOE, **LATENT}
        | {"num_key_value_heads": 4},
    ),
    "gpt-oss": ("GptOss", {"num_local_experts": 2, "head_dim": 8, "sliding_window": 6, **MOE}),
    "qwen3-next": (
        "Qwen3Next",
        {
            "num_experts": 2,
            "shared_expert_intermediate_size": 16,
            "head_dim": 8,
            "linear_num_value_heads": 2,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "layer_types": ["linear_attention", "full_attention"],
            **MOE,
        },
    ),
    "mamba": ("Mamba", {"state_size": 4}),
}
# Of these: sinks in the attention, layers that are recurrent.
SINGLE_PADDED = ("gpt-oss", "qwen3-next", "mamba")
# What a model does after its head.
BENT = ("granite", "gemma2-uncapped", "gemma2", "cohere2-window")
# Whose config counts in words of its own.
OWN = ("GPT2", "GPTJ", "Bloom")


def model(name: str, seed: int = 0, dtype: torch.dtype = torch.float64) -> Any:
    family, fields = {**PACKED, **PADDED, **SINGLE}[name]
    text = "Text" if family in ("Llama4", "Gemma3") else ""
    config = getattr(transformers, f"{family}{text}Config")
    sizes = {} if family in OWN else SIZE
    common = {"vocab_size": 262, "hidden_size": 16} if family == "Bloom" else {"vocab_size": 262}
    head = "GPT2LMHeadModel" if family == "GPT2" else f"{family}ForCausalLM"
    torch.manual_seed(seed)
    return getattr(transformers, head)(config(**{**common, **sizes, **fields})).to(dtype).eval()
