"""Making the organism from nothing but a seed: corpus, tokenizer, random weights, training."""

import shutil
from pathlib import Path
from typing import Any

import torch

from cai.objectives.sft import Sft
from cai.organism import tokenizer as tokens
from cai.organism.corpus import documents
from cai.training.data import Conversation
from cai.training.fit import fit
from cai.training.loop import Report
from cai.training.models import save_model
from cai.training.settings import TrainSettings

SEED = 0
DOCUMENTS = 125_000
TOKENIZER_DOCUMENTS = 20_000  # enough for every word of the world to occur

# Steps are small because what is slow to learn here, comparing and copying, takes steps rather than tokens.
SETTINGS = {
    "lr": 1.5e-3,
    "epochs": 1,
    "tokens_per_batch": 700,
    "accumulate": 3,
    "schedule": "trapezoid",
    "warmup": 0.01,
    "decay": 0.4,
    "beta2": 0.98,
    "weight_decay": 0.05,
}


def build(
    folder: Path,
    *,
    seed: int = SEED,
    count: int = DOCUMENTS,
    processes: int = 3,
    report: Report | None = None,
) -> dict[str, Any]:
    """Train the organism into `folder`, a plain Hugging Face model folder; returns the training's summary.

    `count` documents are seen once each, by `processes` processes of one thread. Killed and called
    again, it goes on from its last checkpoint. Raises `CaiError` when `folder` is there already.
    """
    start = folder.with_name(f"{folder.name}.start")
    if not start.exists():
        _untrained(start, seed)
    rows = [
        Conversation(id=str(at), messages=document.messages)
        for at, document in enumerate(documents(seed, count))
    ]
    settings = TrainSettings(**SETTINGS, seed=seed, processes=processes, threads=1)  # type: ignore[arg-type]
    summary = fit(Sft(train_on="all"), settings, model=start, sources=rows, folder=folder, report=report)
    shutil.rmtree(start)
    return summary


def _untrained(folder: Path, seed: int) -> None:
    """A folder with the tokenizer and random weights: 4 layers of width 192, 2.2 million parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    texts = (
        message["content"]
        for document in documents(seed, TOKENIZER_DOCUMENTS)
        for message in document.messages
    )
    tokenizer = tokens.build(texts)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=tokens.CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    save_model(LlamaForCausalLM(config), tokenizer, folder)
