"""TRL's side of bench/train.py: one job, one process, one line of JSON. Runs in TRL's own environment."""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from datasets import Dataset
from torch.utils.data import SequentialSampler
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

TRAINERS = {
    "dpo": (DPOTrainer, DPOConfig),
    "sft": (SFTTrainer, SFTConfig),
    "reward": (RewardTrainer, RewardConfig),
}


class Clock(TrainerCallback):
    """When each step was done."""

    def __init__(self) -> None:
        self.steps: dict[int, tuple[float, float]] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.steps[state.global_step] = time.perf_counter(), time.process_time()


def main() -> None:
    job = json.loads(sys.argv[1])
    rows = [json.loads(line) for line in Path(job["rows"]).read_text(encoding="utf-8").splitlines()]
    checking = job["mode"] == "check"
    epoch = -(-len(rows) // job["batch"])
    clock = Clock()
    trainer = made(job, rows, job["checked"] if checking else 2 * epoch)
    trainer.add_callback(clock)
    losses: list[float] = []
    if checking:
        trainer._get_train_sampler = lambda *_: SequentialSampler(trainer.train_dataset)
        step = trainer.training_step

        def noted(*args: Any, **kwargs: Any) -> Any:
            loss = step(*args, **kwargs)
            losses.append(float(loss))
            return loss

        trainer.training_step = noted
    trainer.train()
    if checking:
        print(json.dumps({"losses": losses}))
        return
    wall, cpu = (a - b for b, a in zip(clock.steps[epoch], clock.steps[2 * epoch], strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rows": len(rows), "wall_s": wall, "cpu_s": cpu, "peak_mb": peak}))


def made(job: dict[str, Any], rows: list[dict[str, str]], steps: int) -> Any:
    """A trainer with what costs time and is not the task turned off: checkpointing, bars, reports, saving."""
    trainer, config = TRAINERS[job["task"]]
    more = {"beta": job["beta"], "precompute_ref_log_probs": True} if job["task"] == "dpo" else {}
    args = config(
        output_dir="run",
        per_device_train_batch_size=job["batch"],
        max_steps=steps,
        learning_rate=job["lr"],
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=1.0,
        max_length=None,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        **more,
    )
    auto = AutoModelForSequenceClassification if job["task"] == "reward" else AutoModelForCausalLM
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    dataset = Dataset.from_list([conversation(row, job["task"]) for row in rows])
    return trainer(
        model=auto.from_pretrained(job["model"], dtype="float32"),
        args=args,
        train_dataset=dataset,
        processing_class=tokenizer,
    )


def conversation(row: dict[str, str], task: str) -> dict[str, list[dict[str, str]]]:
    prompt = [{"role": "user", "content": row["prompt"]}]
    answers = {side: [{"role": "assistant", "content": row[side]}] for side in ("chosen", "rejected")}
    if task == "sft":
        return {"prompt": prompt, "completion": answers["chosen"]}
    return {"prompt": prompt, **answers}


if __name__ == "__main__":
    main()
