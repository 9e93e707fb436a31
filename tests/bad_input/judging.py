"""What judges said, and what is to be true of it: evals of it and calibrations that cannot be."""

from bad_input.case import OUT, Case

PAIR = (
    '{"id": "c", "prompt_id": "p", "prompt": [{"role": "user", "content": "x"}], "meta": {"best": 2}, '
    '"candidates": [{"text": "a"}, {"text": "b"}], "annotations": [{"annotator": "judge", '
    '"probabilities": [0.9, 0.1]}], "probabilities": [0.9, 0.1]}\n'
)
FORMS = "write meta:KEY, annotator:NAME or file.py:function"
LABEL = "'best' is 2; write the position of the best candidate, 0 to 1, or \"tie\""


def judged(name: str, command: str, message: str, code: int = 1) -> Case:
    """A command on one comparison, whose label is none."""
    return Case(
        name=f"judging: {name}", command=command, message=message, code=code, files={"pairs.jsonl": PAIR}
    )


FIT = "calibration pairs.jsonl --method isotonic"
JUDGING = [
    judged(
        "no source of truth",
        f"eval pairs.jsonl --eval judge --set gold=best {OUT}",
        f"cai eval gold: 'best' names no source of truth; {FORMS}",
    ),
    judged(
        "label that is no position",
        f"eval pairs.jsonl --eval judge --set gold=meta:best {OUT}",
        f"pairs.jsonl:1: {LABEL}",
    ),
    judged(
        "engine where no model is asked",
        f"eval pairs.jsonl --eval judge --engine scripted {OUT}",
        "--engine: no model is asked; give --prompts or --by, or take it out",
        2,
    ),
    judged(
        "answers as comparisons",
        f"eval pairs.jsonl --eval winrate --by m --engine scripted --set constitution=harmless {OUT}",
        "pairs.jsonl: this file holds comparisons; give a file of records",
    ),
    judged("no label to fit to", f"{FIT} --gold meta:best -o map.json", f"pairs.jsonl:1: {LABEL}"),
    judged(
        "no truth to fit to",
        f"{FIT} --gold meta:other -o map.json",
        "pairs.jsonl: no verdict that 'meta:other' knows the truth of; check the name",
    ),
    judged(
        "source that is none to fit to",
        f"{FIT} --gold best -o map.json",
        f"--gold: 'best' names no source of truth; {FORMS}",
        2,
    ),
    judged(
        "map of another kind",
        f"{FIT} --gold meta:best -o map.jsonl",
        "--output: 'map.jsonl' does not end with .json; give a .json file",
        2,
    ),
]
