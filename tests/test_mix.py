"""What several files come to in training: a weight for each row, or a share for each file."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from cai.cli import run
from cai.errors import CaiError
from cai.mix import by_share
from cai.training.data import Conversation


def rows(count: int, weight: float = 1.0) -> list[Conversation]:
    return [Conversation(id=str(at), messages=(), weight=weight) for at in range(count)]


def test_a_file_s_rows_come_to_its_share_whatever_their_number() -> None:
    harmless, helpful = by_share([rows(2), rows(6)], (3.0, 1.0), [Path("a"), Path("b")])
    # 8 rows in all: 6 for the first file's two rows, 2 for the second's six.
    assert [row.weight for row in harmless] == [3.0, 3.0]
    assert [row.weight for row in helpful] == pytest.approx([1 / 3] * 6)


@given(
    st.lists(st.tuples(st.integers(1, 20), st.floats(0.1, 10), st.floats(0.1, 10)), min_size=1, max_size=4)
)
def test_shares_are_of_the_weights_and_keep_their_sum(files: list[tuple[int, float, float]]) -> None:
    parts = [rows(count, weight) for count, weight, _ in files]
    shares = [share for *_, share in files]
    mixed = by_share(parts, shares, [Path("f")] * len(files))
    sums = [sum(row.weight for row in part) for part in mixed]
    assert sum(sums) == pytest.approx(sum(row.weight for part in parts for row in part))
    assert [one / sums[0] for one in sums] == pytest.approx([share / shares[0] for share in shares])


def test_a_file_without_a_row_cannot_have_a_share() -> None:
    with pytest.raises(CaiError) as raised:
        by_share([rows(1), []], (1.0, 1.0), [Path("a.jsonl"), Path("b.jsonl")])
    assert str(raised.value) == (
        "b.jsonl: none of its rows can be learned from, and it is to have a share; "
        "take it out, or see why its rows were left out"
    )


@dataclass(frozen=True)
class Trained:
    """Two files, one of 1 row and one of 3, and the model that is trained on them."""

    folder: Path

    def train(self, name: str, *options: str) -> bytes:
        files = [str(self.folder / "a.jsonl"), str(self.folder / "b.jsonl")]
        command = ["train", "sft", *files, "--model", str(self.folder / "tiny"), "--epochs", "2"]
        assert run([*command, "-o", str(self.folder / name), "--quiet", *options]) == 0
        return (self.folder / name / "model.safetensors").read_bytes()


def test_shares_are_the_weights_that_they_come_to(tmp_path: Path) -> None:
    tiny.folder(tmp_path / "tiny")
    for name, count in Counter(a=1, b=3).items():
        commands = "".join(f'{{"prompt": "{name} {at}"}}\n' for at in range(count))
        (tmp_path / "p.jsonl").write_text(commands)
        out = str(tmp_path / f"{name}.jsonl")
        assert run(["generate", str(tmp_path / "p.jsonl"), "--engine", "scripted", "-o", out, "--quiet"]) == 0
    both = Trained(tmp_path)
    # Of four rows' weight half for each file: 2 for the one row, 2/3 for each of the three.
    shared = both.train("shared", "--shares", "1,1")
    assert shared == both.train("weighted", "--weights", f"2,{2 / 3}")
    assert shared != both.train("plain")


@pytest.mark.parametrize(
    "options, message",
    [
        (["--shares", "1"], "shares and inputs differ in number (1 and 2); give one share for each input"),
        (["--shares", "1,0"], "'shares' is [1.0, 0.0]; write a list of numbers above 0"),
        (
            ["--shares", "1,1", "--weights", "1,1"],
            "'weights' and 'shares' are both given; "
            "leave one out: weights are each row's, shares each file's",
        ),
    ],
)
def test_a_bad_mix_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["train", "sft", "a.jsonl", "b.jsonl", "--model", "organism", "-o", "m", *options]
    assert run(command) == 2
    assert capsys.readouterr().err == f"error: cai train sft: {message}\n"
