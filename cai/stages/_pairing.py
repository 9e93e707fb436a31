"""Two answers as the candidates of a comparison: shared by `compare` and `pairs`."""

from cai.records import Candidate, Record, Turn, digest, draw

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


def _answer_id(answer: Answer) -> str:
    # The same record may be answered in several files, by several models: its id alone does not name an
    # answer.
    record, turn = answer
    return digest(record.id, turn.kind, turn.text, turn.weights)
