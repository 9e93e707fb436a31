"""What a model of the world can do by itself, before any alignment: answer, criticise, judge.

Answers are the model's own; the judge compares rendered ones, so that every kind of answer meets every
other. Critique and judge are asked by the same stages, with the same frames, as a pipeline asks them.
"""

import random
from collections.abc import Sequence

from cai.constitution import Constitution
from cai.engines import Session
from cai.evals import Number, VerdictRow
from cai.evals.organism import Organism
from cai.evals.organism_critiques import OrganismCritiques
from cai.evals.organism_judge import OrganismJudge
from cai.organism import oracle
from cai.organism.answers import ANSWER_KINDS, render
from cai.records import Comparison, Record, Turn, prompt_from, sibling
from cai.stages import Asking, T, together
from cai.stages.compare import Compare
from cai.stages.critique import Critique
from cai.stages.generate import Generate

ANSWER_TOKENS = 80
CRITIQUE_TOKENS = 160


def check(
    session: Session,
    rows: Sequence[dict[str, str]],
    constitutions: Sequence[Constitution],
    *,
    temperature: float = 0.7,
    seed: int = 0,
) -> list[Number]:
    """The numbers of the three organism evals on request rows: answers at `temperature`, the rest greedy.

    Every answer is criticised, and one pair of rendered rivals for every request judged, under each
    constitution.
    """
    prompts = [prompt_from(row, None, f"row {at + 1}") for at, row in enumerate(rows)]
    generate = Generate(temperature=temperature, max_tokens=ANSWER_TOKENS, seed=seed)
    answered = [
        row for row in _all(session, [generate.work(one) for one in prompts]) if isinstance(row, Record)
    ]
    numbers = Organism().numbers(verdict for row in answered for verdict in Organism().work(row))
    critiques: list[VerdictRow] = []
    comparisons: list[VerdictRow] = []
    for constitution in constitutions:
        critiques += _criticised(session, answered, constitution, seed)
        comparisons += _judged(session, prompts, constitution, seed)
    some = constitutions[0]
    numbers += OrganismCritiques(constitution=some).numbers(critiques)
    return numbers + OrganismJudge(constitution=some).numbers(comparisons)


def _criticised(
    session: Session, answered: Sequence[Record], constitution: Constitution, seed: int
) -> list[VerdictRow]:
    stage = Critique(constitution=constitution, temperature=0.0, max_tokens=CRITIQUE_TOKENS, seed=seed)
    rows = _all(session, [stage.work(record) for record in answered])
    evaluation = OrganismCritiques(constitution=constitution)
    return [verdict for row in rows if isinstance(row, Record) for verdict in evaluation.work(row)]


def _judged(
    session: Session, prompts: Sequence[Record], constitution: Constitution, seed: int
) -> list[VerdictRow]:
    stage = Compare(constitution=constitution, seed=seed)
    rows = _all(session, [stage.work(_rivals(prompt, seed)) for prompt in prompts])
    evaluation = OrganismJudge(constitution=constitution)
    return [verdict for row in rows if isinstance(row, Comparison) for verdict in evaluation.work(row)]


def _rivals(prompt: Record, seed: int) -> list[Record]:
    """Two answers of different kinds to a prompt."""
    rng = random.Random(f"rivals {seed} {prompt.id}")
    pair = oracle.find(prompt.prompt[-1]["content"])
    texts = [render(rng, pair, kind) for kind in rng.sample(ANSWER_KINDS, 2)]
    return [sibling(prompt, at).then(Turn(kind="response", text=text)) for at, text in enumerate(texts)]


def _all(session: Session, works: Sequence[Asking[list[T]]]) -> list[T]:
    """Run askings side by side to their ends; all their rows."""
    asking = together(works)
    try:
        requests = next(asking)
        while True:
            for ticket, request in enumerate(requests):
                session.submit(ticket, request)
            replies = dict(session.poll())
            while len(replies) < len(requests):
                replies.update(session.poll())
            requests = asking.send([replies[ticket] for ticket in range(len(requests))])
    except StopIteration as stop:
        return [row for rows in stop.value for row in rows]
