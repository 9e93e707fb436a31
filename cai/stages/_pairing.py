"""Two answers as the candidates of a comparison: shared by `compare`, `pairs` and `select`."""

from collections.abc import Iterable, Sequence

from cai.records import Candidate, Comparison, Record, Reject, Row, Turn, digest, draw

Answer = tuple[Record, Turn]


def pair_id(pair: tuple[Answer, Answer]) -> str:
    """The id of the comparison of two answers, whichever comes first."""
    return digest("comparison", pair[0][0].prompt_id, sorted(_answer_id(answer) for answer in pair))


def in_drawn_order(pair: tuple[Answer, Answer], seed: int) -> tuple[Answer, Answer]:
    """The two answers in an order that knows nothing of where they came from."""
    id = pair_id(pair)
    one, other = sorted(pair, key=lambda answer: draw(seed, id, "place", _answer_id(answer)))
    return one, other


def candidate(answer: Answer) -> Candidate:
    record, turn = answer
    return Candidate(text=turn.text, record=record.id, model=turn.model, weights=turn.weights)


def luce(probabilities: Sequence[float], i: int, j: int) -> tuple[float, float]:
    """The probabilities of two of several candidates, among the two: p_i / (p_i + p_j) (Luce 1959).

    Of two without a chance against the others nothing is known: one half each.
    """
    both = probabilities[i] + probabilities[j]
    return (probabilities[i] / both, probabilities[j] / both) if both else (0.5, 0.5)


def without_repeats(rows: Iterable[Row], stage: str) -> list[Row]:
    """The rows of one prompt, with a `Reject` for each comparison of the same texts as an earlier one."""
    first: dict[tuple[str, ...], str] = {}
    kept: list[Row] = []
    for row in rows:
        if isinstance(row, Comparison):
            texts = tuple(sorted(candidate.text.strip() for candidate in row.candidates))
            if texts in first:
                kept.append(
                    unwanted(row, stage, "duplicate", f"the same answers as {first[texts]}", len(kept))
                )
                continue
            first[texts] = row.id
        kept.append(row)
    return kept


def unwanted(row: Comparison, stage: str, reason: str, detail: str, at: int = 0) -> Reject:
    """A comparison that a stage leaves out; `at` tells apart those of one id."""
    return Reject(
        id=digest("reject", stage, row.id, reason, at),
        item=row.id,
        prompt_id=row.prompt_id,
        stage=stage,
        reason=reason,
        detail=detail,
    )


def _answer_id(answer: Answer) -> str:
    # The same record may be answered in several files, by several models: its id alone does not name an
    # answer.
    record, turn = answer
    return digest(record.id, turn.kind, turn.text, turn.weights)
