"""`cai review` as a human meets it: the real program at a terminal, and the training that comes next."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from pseudo_terminal import Terminal
from transformers import AutoModelForCausalLM, AutoTokenizer

from cai.chat import encode_example
from cai.cli import run
from cai.encoding import encode
from cai.records import Annotation, Candidate, Comparison, assistant, digest, user
from cai.rows import read_comparisons
from cai.training.data import preferences

GOOD, BAD = "I will not say.", "Here is how."


def judged(name: str, good: float) -> Comparison:
    """A judge's comparison of a good answer, written by m1, with a bad one, written by m2."""
    note = Annotation(
        annotator="reasoned",
        principle="kind",
        protocol="both orders",
        probabilities=(good, 1 - good),
        orders=((good, 1 - good), (good, 1 - good)),
        shown=((0, 1), (1, 0)),
        note="The judge likes this.",
    )
    return Comparison(
        id=digest(name),
        prompt_id=digest("prompt", name),
        prompt=(user(f"Tell me {name}."),),
        candidates=(Candidate(text=GOOD, model="m1"), Candidate(text=BAD, model="m2")),
        annotations=(note,),
        probabilities=note.probabilities,
    )


# The judge is wrong about the doubtful one, and unsure of another.
DOUBTFUL, SURE, EVEN = judged("a lie", 0.46), judged("a joke", 0.98), judged("a date", 0.5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = b"".join(encode(row) + b"\n" for row in (SURE, DOUBTFUL, EVEN))
    (tmp_path / "comparisons.jsonl").write_bytes(rows)
    return tmp_path


def reviewing(folder: Path, *more: str, columns: int = 80) -> Terminal:
    command = ["review", "comparisons.jsonl", "-o", "reviewed.jsonl", "--name", "ada", *more]
    return Terminal(*command, folder=folder, columns=columns)


def letter_of(shown: str, text: str) -> str:
    """Which key stands for the answer: they are one below the other, or a on the left."""
    other = BAD if text == GOOD else GOOD
    return "a" if shown.index(text) < shown.index(other) else "b"


def decide(terminal: Terminal, *texts: str) -> None:
    """Choose these answers, one in each comparison that comes."""
    for number, text in enumerate(texts, start=1):
        shown = terminal.read_until("?: help")
        assert f"{number} of " in shown
        terminal.type(letter_of(shown, text))


def test_a_doubtful_comparison_that_a_human_reviews_flips_in_the_next_training(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    terminal = reviewing(folder)
    decide(terminal, GOOD, GOOD)
    terminal.read_until("3 of 3")
    terminal.type("q")
    assert terminal.close() == 0
    assert terminal.shown.endswith("reviewed.jsonl: 3 rows, 2 reviewed (1 flipped, 1 decided)\n")
    judge, human = (sides(folder / name) for name in ("comparisons.jsonl", "reviewed.jsonl"))
    assert judge[DOUBTFUL.id] == (BAD, GOOD, 1 - 0.46)
    assert human[DOUBTFUL.id] == (GOOD, BAD, 1.0)
    assert human[SURE.id] == judge[SURE.id]
    assert [one.annotator for one in row_of("reviewed.jsonl", DOUBTFUL).annotations] == [
        "reasoned",
        "human:ada",
    ]
    # The trainer itself: what it learns from each file moves the model to the side that is labelled better.
    tiny.folder(folder / "m")
    only = row_of("comparisons.jsonl", DOUBTFUL), row_of("reviewed.jsonl", DOUBTFUL)
    for name, row in zip(("judge", "human"), only, strict=True):
        Path(f"{name}.jsonl").write_bytes(encode(row) + b"\n")
        train = ["train", "dpo", f"{name}.jsonl", "--model", "m", "--set", "label=hard", "-o", name]
        assert run([*train, "--lr", "1e-3", "--epochs", "8", "--batch-size", "1", "--quiet"]) == 0
    assert margin("judge") < margin("m") < margin("human")


def sides(path: Path) -> dict[str, tuple[str, str, float]]:
    """Chosen, rejected and probability by id, as every pairwise objective reads them."""
    pairs, left_out = preferences(read_comparisons(path))
    assert not left_out
    return {pair.id: (pair.a, pair.b, pytest.approx(pair.p_a)) for pair in pairs}


def row_of(name: str, wanted: Comparison) -> Comparison:
    [row] = [row for row in read_comparisons(Path(name)) if row.id == wanted.id]
    return row


def margin(model: str) -> float:
    """log P(good) - log P(bad) after the doubtful prompt."""
    loaded, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    good, bad = (log_probability(loaded, tokenizer, text) for text in (GOOD, BAD))
    return good - bad


def log_probability(model: object, tokenizer: object, text: str) -> float:
    example = encode_example(tokenizer, (*DOUBTFUL.prompt, assistant(text)))
    ids = torch.tensor([example.ids])
    with torch.no_grad():
        logps = model(ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
    return float(logps[torch.tensor(example.mask[1:], dtype=torch.bool)].sum())


def test_nothing_shown_says_who_wrote_what_or_what_the_judge_thought(folder: Path) -> None:
    terminal = reviewing(folder)
    decide(terminal, GOOD, BAD, GOOD)
    terminal.read_until("3 rows")
    assert terminal.close() == 0
    shown = terminal.shown.split("reviewed.jsonl: 3 rows")[0]
    for secret in ("m1", "m2", "reasoned", "judge", "0.", "%"):
        assert secret not in shown
    assert shown.index("Tell me a date.") < shown.index("Tell me a lie.") < shown.index("Tell me a joke.")
    assert shown.count("principle kind") == 3


def test_a_killed_review_goes_on_where_it_was(folder: Path) -> None:
    terminal = reviewing(folder)
    decide(terminal, GOOD)
    terminal.read_until("2 of 3")
    terminal.kill()
    assert not (folder / "reviewed.jsonl").exists()
    again = reviewing(folder)
    shown = again.read_until("?: help")
    assert "1 of 2" in shown and "Tell me a lie." in shown
    again.type("q")
    assert again.close() == 0
    assert again.shown.endswith("reviewed.jsonl: 3 rows, 1 reviewed (1 decided)\n")
    # With nothing more to say, the output stays as it is, to the byte.
    before = (folder / "reviewed.jsonl").read_bytes()
    last = reviewing(folder)
    last.read_until("?: help")
    last.type("\x03")
    assert last.close() == 0
    assert (folder / "reviewed.jsonl").read_bytes() == before


def test_keys(folder: Path) -> None:
    terminal = reviewing(folder)
    moves: list[tuple[str, str]] = [
        ("u", "there is none before this one"),
        ("x", "a, b: that answer is the better one; t: neither is"),
        ("\x1b[A", "a, b: that answer is the better one; t: neither is"),
        ("t", "a tie"),
        ("u", "back to the one before"),
        ("s", "skipped"),
        ("A", "a is better"),
        ("u", "back to the one before"),
        ("t", "a tie"),
        ("b", "b is better"),
    ]
    for key, answer in moves:
        terminal.type(key)
        terminal.read_until(answer)
    assert terminal.close() == 0
    rows = [json.loads(line) for line in (folder / "reviewed.decisions.jsonl").read_text().splitlines()[1:]]
    names = {DOUBTFUL.id: "lie", SURE.id: "joke", EVEN.id: "date"}
    said = [(names[row["comparison"]], "taken back" if "taken_back" in row else row["best"]) for row in rows]
    last = rows[-1]["shown"][1]
    assert said[:2] == [("date", None), ("date", "taken back")]
    assert said[2][0] == "lie" and said[2][1] in (0, 1)
    assert said[3:] == [("lie", "taken back"), ("lie", None), ("joke", last)]


def test_a_review_of_nothing_writes_nothing(folder: Path) -> None:
    terminal = reviewing(folder)
    terminal.read_until("?: help")
    terminal.type("q")
    assert terminal.close() == 0
    assert terminal.shown.endswith("nothing was decided, so nothing was written\n")
    assert [path.name for path in folder.iterdir()] == ["comparisons.jsonl"]


def test_answers_side_by_side_on_a_wide_terminal(folder: Path) -> None:
    terminal = reviewing(folder, "--limit", "1", columns=120)
    shown = terminal.read_until("?: help")
    [line] = [line for line in shown.splitlines() if GOOD in line]
    assert BAD in line and "1 of 1" in shown
    terminal.type("q")
    assert terminal.close() == 0


def test_control_characters_of_an_answer_do_not_act(folder: Path) -> None:
    hostile = "\x1b[2Jgone\x1b]0;owned\x07 \u202eback [bold]x[/bold]"
    row = judged("tricks", 0.5)
    broken = Comparison(**{**vars(row), "candidates": (Candidate(text=hostile), row.candidates[1])})
    (folder / "comparisons.jsonl").write_bytes(encode(broken) + b"\n")
    terminal = reviewing(folder, columns=130)
    shown = terminal.read_until("?: help")
    assert "\\x1b[2Jgone\\x1b]0;owned\\x07 \\u202eback [bold]x[/bold]" in shown
    assert "\x07" not in terminal.shown and "\u202e" not in terminal.shown
    terminal.type("q")
    terminal.close()


CONSTITUTION = """
name = "mine"
[[principle]]
id = "{id}"
critique = "Is it unkind?"
revision = "Make it kind."
preference = "Choose the kind answer."
"""


def test_the_principle_s_words_are_shown_from_its_constitution(folder: Path) -> None:
    (folder / "mine.toml").write_text(CONSTITUTION.format(id="kind"))
    terminal = reviewing(folder, "--constitution", "mine.toml")
    terminal.read_until("principle kind: Choose the kind answer.")
    terminal.type("q")
    assert terminal.close() == 0
    (folder / "other.toml").write_text(CONSTITUTION.format(id="other"))
    wrong = reviewing(folder, "--constitution", "other.toml")
    assert wrong.close() == 1
    assert " ".join(wrong.shown.split()).endswith(
        "error: --constitution: 'mine' has no principle 'kind'; "
        "give the one that comparisons.jsonl was compared under"
    )


@pytest.fixture
def fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """What `cai` says of a command that fails with this exit code."""
    monkeypatch.chdir(folder)

    def failing(code: int, *command: str) -> str:
        assert run(command) == code
        return capsys.readouterr().err

    return failing


def test_without_a_terminal_there_is_no_review(fails: Callable[..., str]) -> None:
    command = ["review", "comparisons.jsonl", "-o", "reviewed.jsonl", "--name", "ada"]
    assert fails(2, *command) == (
        "error: cai review: a human reviews at a terminal, and this is none; run it in one\n"
    )
