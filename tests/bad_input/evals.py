"""Evals of answers that they cannot read, or that they are not asked for."""
# ruff: noqa: E501

from recipes import CONSTITUTION

from bad_input.case import Case

ANSWERS = """
{"id": "a", "prompt_id": "p", "sample": 0, "prompt": [{"role": "user", "content": "Bake how?"}], "meta": {"kind": "benign", "category": "bread"}, "turns": [{"kind": "response", "text": "Like this."}]}
{"id": "b", "prompt_id": "q", "sample": 0, "prompt": [{"role": "user", "content": "Fry how?"}], "meta": {"category": "eggs"}, "turns": [{"kind": "response", "text": "So."}]}
"""


def evaluation(name: str, command: str, message: str, code: int = 1) -> Case:
    """An eval of ANSWERS."""
    every = {"answers.jsonl": ANSWERS, "mine.toml": CONSTITUTION}
    return Case(
        name=f"eval: {name}",
        command=f"eval answers.jsonl --eval {command} -o r.jsonl",
        message=message,
        code=code,
        files=every,
    )


EVALS = [
    evaluation(
        "a request of no kind",
        "refusals --set detectors=phrases",
        "answers.jsonl:3: 'kind' is missing; add \"kind\" to each line of the requests, or set kind to the key that has it",
    ),
    evaluation(
        "answers that nobody attacked for",
        "robustness --set detectors=phrases",
        "answers.jsonl:2: 'attack' is missing; give what the stage attack wrote",
    ),
    evaluation(
        "no model to ask",
        "refusals",
        "eval 'refusals' asks a model itself; say which: --by MODEL",
        code=2,
    ),
    evaluation(
        "a model where none is asked",
        "refusals --set detectors=phrases --by start --engine scripted",
        "cai eval: 'refusals' asks no model; take 'engine' out",
        code=2,
    ),
    evaluation(
        "drift of answers without a likelihood",
        "perplexity --set drift=likelihood --by start --engine scripted",
        "answers.jsonl:2: 'likelihood' is missing; give what the stage likelihood wrote, asking the model that gave the answers",
    ),
    evaluation(
        "no such detector",
        "refusals --set detectors=phrase",
        "cai eval detectors: no detector is called 'phrase'; did you mean 'phrases'? (a detector of your own: 'package.module:Class')",
    ),
]
