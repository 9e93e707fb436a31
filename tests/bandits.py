"""A world of one step for PPO and GRPO: one prompt, six answers of one token, a policy that is a table."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import tiny
import torch

from cai.records import Record, user

TOKENIZER = tiny.tokenizer()
ANSWERS = "abcdef"
IDS = [TOKENIZER(letter, add_special_tokens=False)["input_ids"][0] for letter in ANSWERS]
START = (0.5, 0.0, -0.5, 1.0, 0.2, -1.0)
REWARDS = {"a": 1.0, "b": 0.0, "c": 0.7, "d": -0.5, "e": 0.3, "f": 0.9}
# Far below what any answer has, and far above what float32 would make of -inf times 0.
NEVER = -1e4


class Features(torch.nn.Module):
    """A backbone without a head, all of whose states are 1."""

    def get_output_embeddings(self) -> None:
        return None

    def forward(self, input_ids: torch.Tensor, use_cache: bool = False) -> Any:
        return SimpleNamespace(last_hidden_state=torch.ones(*input_ids.shape, 1, dtype=torch.float64))


class Table(torch.nn.Module):
    """A causal language model whose next-token logits are the same everywhere: one parameter an answer."""

    device, dtype, generation_config = torch.device("cpu"), torch.float64, None

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.tensor(START, dtype=torch.float64))
        self.head = torch.nn.Identity()
        self.base_model = Features()
        text = SimpleNamespace(max_position_embeddings=64, vocab_size=262, hidden_size=1)
        self.config = SimpleNamespace(_attn_implementation="eager", get_text_config=lambda: text)

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.head

    def forward(self, input_ids: torch.Tensor, past_key_values: Any = None, use_cache: bool = False) -> Any:
        row = torch.full((262,), NEVER, dtype=torch.float64)
        row = row.index_copy(0, torch.tensor(IDS), self.table)
        logits = self.head(row.expand(*input_ids.shape, 262))
        return SimpleNamespace(logits=logits, past_key_values=None)

    def probabilities(self) -> torch.Tensor:
        return self.table.detach().softmax(-1)


def prompts(count: int = 1) -> list[Record]:
    return [
        Record(id=f"p{at}", prompt_id=f"p{at}", prompt=(user(f"pick {at}"),), turns=()) for at in range(count)
    ]


def reward_file(folder: Path, body: str = f"return {REWARDS!r}.get(answer, 0.0)") -> str:
    """A reward function of a user's own."""
    path = folder / "mine.py"
    path.write_text(f"def score(prompt, answer):\n    {body}\n")
    return f"{path}:score"


def tilted(beta: float) -> torch.Tensor:
    """pi_ref exp(r / beta) / Z: where the reward less beta KL(pi || pi_ref) is highest."""
    rewards = torch.tensor([REWARDS[letter] for letter in ANSWERS], dtype=torch.float64)
    return (torch.tensor(START, dtype=torch.float64) + rewards / beta).softmax(-1)


def leaned(beta: float) -> torch.Tensor:
    """beta pi_ref / (c - r): where the reward less beta KL(pi_ref || pi) is highest."""
    rewards = torch.tensor([REWARDS[letter] for letter in ANSWERS], dtype=torch.float64)
    start = torch.tensor(START, dtype=torch.float64).softmax(-1)
    low, high = float(rewards.max()), float(rewards.max()) + beta
    for _ in range(200):
        c = (low + high) / 2
        low, high = (c, high) if (beta * start / (c - rewards)).sum() > 1 else (low, c)
    return beta * start / (high - rewards)


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Total variation."""
    return float((one - other).abs().sum() / 2)
