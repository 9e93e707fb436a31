"""Numbers out of the rows of the `winrate` eval: who wins how often, and how strong that makes each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path

from cai.evals import Number, VerdictRow
from cai.evals._bootstrap import percentiles, resampled
from cai.evals._bradley_terry import SCALE, strengths
from cai.evals._intervals import totals
from cai.evals._judging import order_effects
from cai.evals._length_control import Meeting, at_equal_length
from cai.evals._shares import prompts_of, share

WIN_RATE = "win rate"
ELO = "Elo"
LENGTH_CONTROLLED = "length-controlled win rate"
ANCHOR = 1000.0


@dataclass(frozen=True, kw_only=True)
class Game:
    """One meeting that counts, of two models by their places among all."""

    prompt: str
    one: int
    other: int
    won: float
    longer: int


def standings(rows: Sequence[VerdictRow]) -> list[Number]:
    """Every model against all others and against each, Elo, and what the judge did with the meetings."""
    names = _names(rows)
    places = {writer: at for at, writer in enumerate(names)}
    games = [
        Game(
            prompt=str(row["prompt"]),
            one=places[_writer(row, "one")],
            other=places[_writer(row, "other")],
            won=float(row["won"]),
            longer=int(row["length_one"]) - int(row["length_other"]),
        )
        for row in rows
        if row["outcome"] != "unreadable"
    ]
    labels = list(names.values())
    return [*_win_rates(labels, games), *_elo(labels, games), *_judging(rows)]


def _names(rows: Sequence[VerdictRow]) -> dict[tuple[str, str], str]:
    """Who met, in the order of the files: model and weights to a label that no two share."""
    writers = dict.fromkeys(_writer(row, side) for row in rows for side in ("one", "other"))
    short = [Path(model).name for model, _ in writers]
    whole = [model for model, _ in writers]
    labels = {}
    for model, weights in writers:
        label = Path(model).name if short.count(Path(model).name) == 1 else model
        labels[model, weights] = label if whole.count(model) == 1 else f"{label} ({weights[:8]})"
    return labels


def _writer(row: VerdictRow, side: str) -> tuple[str, str]:
    return str(row[side]), str(row[f"weights_{side}"])


def _win_rates(labels: Sequence[str], games: Sequence[Game]) -> Iterator[Number]:
    for at, label in enumerate(labels):
        own = [game if game.one == at else _turned(game) for game in games if at in (game.one, game.other)]
        yield share(WIN_RATE, label, [game.won for game in own], prompts=[game.prompt for game in own])
        yield share("ties", label, [game.won == 0.5 for game in own], prompts=[game.prompt for game in own])
        for rival, name in enumerate(labels):
            met = [game for game in own if game.other == rival]
            if met:
                yield from _against(label, f"over {name}", met)


def _against(label: str, group: str, met: Sequence[Game]) -> Iterator[Number]:
    yield share(WIN_RATE, label, [game.won for game in met], group, [game.prompt for game in met])
    meetings = [Meeting(prompt=game.prompt, won=game.won, longer=game.longer) for game in met]
    value, (low, high) = at_equal_length(meetings)
    yield Number(
        name=LENGTH_CONTROLLED,
        of=label,
        value=value,
        low=low,
        high=high,
        n=len(met),
        group=group,
        unit="share",
    )


def _turned(game: Game) -> Game:
    return Game(prompt=game.prompt, one=game.other, other=game.one, won=1 - game.won, longer=-game.longer)


def _elo(labels: Sequence[str], games: Sequence[Game]) -> Iterator[Number]:
    """The strengths as Elo points. Where no chain of meetings joins the models, nothing is measured."""
    import numpy as np

    if not games:
        return
    sums = totals((game.prompt, _wins(game, len(labels))) for game in games)
    shape = (-1, len(labels), len(labels))
    [found] = strengths(np.asarray(sums).sum(0).reshape(shape))
    drawn = strengths(resampled(sums).reshape(shape))
    for at, label in enumerate(labels):
        n = sum(at in (game.one, game.other) for game in games)
        if np.isnan(found[at]) or len(sums) < 2:
            yield Number(name=ELO, of=label, value=nan, low=nan, high=nan, n=0, unit="plain")
            continue
        low, high = percentiles(drawn[:, at], len(sums))
        low, high = ANCHOR + SCALE * low, ANCHOR + SCALE * high
        value = ANCHOR + SCALE * float(found[at])
        yield Number(name=ELO, of=label, value=value, low=low, high=high, n=n, unit="plain")


def _wins(game: Game, count: int) -> list[float]:
    """The (count, count) wins of row over column, flat."""
    found = [0.0] * count**2
    found[game.one * count + game.other] = game.won
    found[game.other * count + game.one] = 1 - game.won
    return found


def _judging(rows: Sequence[VerdictRow]) -> Iterator[Number]:
    """What the judge did with the meetings, all pairs of models together."""
    of = str(rows[0]["judge"]) if rows else ""
    prompts = prompts_of(rows)
    for outcome in ("identical", "unreadable"):
        yield share(f"{outcome} meetings", of, [row["outcome"] == outcome for row in rows], prompts=prompts)
    yield from order_effects(of, rows)
