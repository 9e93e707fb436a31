"""Making the organism from nothing but a seed: corpus, tokenizer, random weights, training."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cai.chat import TrainOn
from cai.objectives.sft import Sft
from cai.organism import tokenizer as tokens
from cai.organism.corpus import WEIGHTS, documents
from cai.training.data import Conversation
from cai.training.fit import fit
from cai.training.loop import Report
from cai.training.models import save_model
from cai.training.settings import TrainSettings

SEED = 0
DOCUMENTS = 52_000
TOKENIZER_DOCUMENTS = 20_000  # enough for every word of the world to occur

# Steps are small because what is slow to learn here, matching and copying, takes steps rather than tokens.
STEPS: dict[str, Any] = {
    "epochs": 1,
    "tokens_per_batch": 700,
    "accumulate": 3,
    "beta2": 0.98,
    "weight_decay": 0.05,
    "threads": 1,
}


@dataclass(frozen=True, kw_only=True)
class Course:
    """One part of the training: documents for each one of "everything", which turns are learned, and how."""

    name: str
    share: float
    train_on: TrainOn
    schedule: dict[str, Any]


COURSES = (
    Course(
        name="basics",
        share=0.4,
        train_on="all",
        schedule={"lr": 1.5e-3, "schedule": "constant", "warmup": 0.05},
    ),
    Course(
        name="everything",
        share=1.0,
        train_on="all",
        schedule={"lr": 1.5e-3, "schedule": "trapezoid", "warmup": 0.02, "decay": 0.4},
    ),
    Course(
        name="habits",
        share=0.3,
        train_on="last",
        schedule={"lr": 6e-4, "schedule": "linear", "warmup": 0.05},
    ),
    Course(
        name="recall",
        share=0.27692,
        train_on="last",
        schedule={"lr": 4e-4, "schedule": "linear", "warmup": 0.05},
    ),
)


def build(
    folder: Path,
    *,
    seed: int = SEED,
    count: int = DOCUMENTS,
    processes: int = 3,
    report: Report | None = None,
) -> dict[str, Any]:
    """Train the organism into `folder`, a plain Hugging Face folder; returns the last course's summary.

    One course after the other, each document seen once, by `processes` processes of one thread; `count` is
    how many documents of everything there are. Killed and called again, it goes on from its last checkpoint.
    Raises `CaiError` when `folder` is there already.
    """
    model = folder.with_name(f"{folder.name}.start")
    made = [model]
    if not model.exists():
        _untrained(model, seed)
    summary: dict[str, Any] = {}
    for course in COURSES:
        target = folder if course is COURSES[-1] else folder.with_name(f"{folder.name}.{course.name}")
        if course is COURSES[-1] or not target.exists():
            summary = _train(course, model, target, seed, round(course.share * count), processes, report)
        made.append(target)
        model = target
    for part in made[:-1]:
        shutil.rmtree(part)
    return summary


def _train(
    course: Course, model: Path, folder: Path, seed: int, count: int, processes: int, report: Report | None
) -> dict[str, Any]:
    rows = [
        Conversation(id=str(at), messages=document.messages, weight=WEIGHTS.get(document.lesson, 1.0))
        for at, document in enumerate(documents(course.name, seed, count))
    ]
    settings = TrainSettings(**STEPS, **course.schedule, seed=seed, processes=processes)
    objective = Sft(train_on=course.train_on)
    return fit(objective, settings, model=model, sources=rows, folder=folder, report=report)


def _untrained(folder: Path, seed: int) -> None:
    """A folder with the tokenizer and random weights: 4 layers of width 192, 2.2 million parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    texts = (
        message["content"]
        for document in documents("everything", seed, TOKENIZER_DOCUMENTS)
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
        # At this width the usual 0.02 starts attention nearly flat: copying is learned later.
        initializer_range=0.06,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    save_model(LlamaForCausalLM(config), tokenizer, folder)
