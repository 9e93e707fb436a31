"""TRL's side of bench/ppo.py: one job, one process, one line of JSON. Needs TRL 1.12."""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer


class Clock(TrainerCallback):
    """When each rollout was learned from."""

    def __init__(self) -> None:
        self.updates: list[tuple[float, float]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.updates.append((time.perf_counter(), time.process_time()))


def main() -> None:
    job = json.loads(sys.argv[1])
    tokenizer = AutoTokenizer.from_pretrained(job["policy"])
    prompts = [json.loads(line)["prompt"] for line in Path(job["rows"]).read_text().splitlines()]
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    ids = [
        tokenizer(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))[
            "input_ids"
        ]
        for chat in chats
    ]
    clock = Clock()
    config = PPOConfig(
        output_dir="run",
        per_device_train_batch_size=job["batch"],
        gradient_accumulation_steps=job["rollout"] // job["batch"],
        num_mini_batches=job["rollout"] // job["batch"],
        num_ppo_epochs=job["reuse"],
        total_episodes=job["rollout"] * job["rollouts"],
        response_length=job["tokens"],
        local_rollout_forward_batch_size=job["rollout"],
        temperature=1.0,
        learning_rate=job["lr"],
        lr_scheduler_type="constant",
        num_sample_generations=0,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    scorers = [AutoModelForSequenceClassification.from_pretrained(job["scorer"]) for _ in range(2)]
    trainer = PPOTrainer(
        args=config,
        processing_class=tokenizer,
        model=AutoModelForCausalLM.from_pretrained(job["policy"]),
        ref_model=AutoModelForCausalLM.from_pretrained(job["policy"]),
        reward_model=scorers[0],
        value_model=scorers[1],
        train_dataset=Dataset.from_dict({"input_ids": ids}),
        callbacks=[clock],
    )
    trainer.train()
    # The first rollout pays for what is done once.
    wall, cpu = (last - first for first, last in zip(clock.updates[0], clock.updates[-1], strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answers = job["rollout"] * (len(clock.updates) - 1)
    print(json.dumps({"answers": answers, "wall_s": wall, "cpu_s": cpu, "peak_mb": peak}))


if __name__ == "__main__":
    main()
