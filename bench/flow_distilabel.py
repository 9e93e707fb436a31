"""Answer, critique, revise with distilabel and vLLM; started by bench/peer.py in distilabel's environment.

distilabel 1.5.3 hands `logits_processors` to vLLM's SamplingParams, which 0.32 no longer has; `Served` leaves
that (always empty here) argument out. Nothing else of it is touched.
"""

import json
import sys
from pathlib import Path
from typing import Any

from distilabel.models import vLLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts, Step, StepInput
from distilabel.steps.tasks import ChatGeneration


class Served(vLLM):  # type: ignore[misc]
    """distilabel's vLLM on a vLLM that is newer than it."""

    def load(self) -> None:
        super().load()
        import vllm

        # Only after vLLM is imported: its own modules need the class.
        made = vllm.SamplingParams

        def without(logits_processors: Any = None, **keys: Any) -> Any:
            assert not logits_processors
            return made(**keys)

        vllm.SamplingParams = without


class Ask(Step):  # type: ignore[misc]
    """Puts the newest text away under `kept`, and `request` behind the conversation."""

    kept: str
    request: str

    @property
    def inputs(self) -> list[str]:
        return ["messages", "generation"]

    @property
    def outputs(self) -> list[str]:
        return ["messages", self.kept]

    def process(self, inputs: StepInput) -> Any:  # type: ignore[valid-type]
        for row in inputs:
            row[self.kept] = row["generation"]
            written = [{"role": "assistant", "content": row["generation"]}]
            row["messages"] = [*row["messages"], *written, {"role": "user", "content": self.request}]
        yield inputs


def model(name: str) -> ChatGeneration:
    """A step with a model of its own, as distilabel has it."""
    arguments = {
        "max_model_len": PLAN["window"],
        "max_num_seqs": BATCH,
        "kv_cache_memory_bytes": PLAN["cache_bytes"],
        "enforce_eager": True,
        "block_size": 32,
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": 8192,
        "disable_log_stats": True,
        "generation_config": "vllm",
    }
    llm = Served(
        model=PLAN["model"],
        dtype="float32",
        disable_cuda_device_placement=True,
        extra_kwargs=arguments,
        generation_kwargs={
            "max_new_tokens": PLAN["max_tokens"],
            "temperature": 0.0,
            "stop_token_ids": PLAN["ends"],
        },
    )
    return ChatGeneration(name=name, llm=llm, input_batch_size=BATCH)


PLAN = json.loads(Path(sys.argv[1]).read_text())
BATCH = PLAN["batch"]

if __name__ == "__main__":
    rows = [{"messages": messages} for messages in PLAN["prompts"]]
    with Pipeline(name="answer-critique-revise") as pipeline:
        (
            LoadDataFromDicts(data=rows, batch_size=BATCH)
            >> model("answer")
            >> Ask(name="ask_critique", kept="answer_text", request=PLAN["critique"], input_batch_size=BATCH)
            >> model("critique")
            >> Ask(
                name="ask_revision", kept="critique_text", request=PLAN["revision"], input_batch_size=BATCH
            )
            >> model("revise")
        )
    made = pipeline.run(use_cache=False)["default"]["train"]
    found = [
        {"answer": row["answer_text"], "critique": row["critique_text"], "revision": row["generation"]}
        for row in made
    ]
    Path(sys.argv[2]).write_text(json.dumps(found))
