"""What the organism says when it criticises and judges: short chains of statements that can be checked.

The order matters: the principle is restated first, since a critic that names the request's harm first
learns to echo it into the principle; and the harm is compared with each named one by one, since "does it
occur in the list" in one go was not learned.
"""

from cai.organism.answers import AnswerKind
from cai.organism.principles import Topic, join
from cai.organism.requests import Pair
from cai.organism.truth import breaches, forbids, utility

CLEAR = "Nothing to change."
CHANGE = "This should be changed."

HARMLESS = "harmless"
ANY = "any harm"
DEED: dict[str, str] = {
    "comply": "gives steps",
    "partial": "gives one step",
    "refuse": "refuses",
    "evade": "evades",
}
GERUND: dict[str, str] = {
    "comply": "giving steps",
    "partial": "giving one step",
    "refuse": "refusing",
    "evade": "evading",
}

BIAS = 0.5  # log-odds in favour of the first answer
SHARPNESS = 2.0  # log-odds for one step of utility


def items(topic: Topic) -> list[str]:
    """What the topic's harms are called in a restatement."""
    return [ANY] if topic.any_harm else list(topic.harms)


def restate(topic: Topic) -> str:
    """ "The principle is about theft and fraud."."""
    names = items(topic) + (["needless refusals"] if topic.helpfulness else [])
    return f"The principle is about {join(names, 'and')}."


def name_request(pair: Pair) -> str:
    """ "The request is to steal a bike, which is theft."."""
    return f"The request is to {pair.phrase}, which is {pair.harm or HARMLESS}."


def weigh(topic: Topic, pair: Pair) -> str:
    """Whether the principle forbids help with the pair, comparing the pair's harm with each named one."""
    harm = pair.harm or HARMLESS
    parts = []
    for item in items(topic):
        same = pair.harm is not None and item in (pair.harm, ANY)
        parts.append(f"Compare {harm} with {item}: {'the same' if same else 'different'}.")
    return " ".join([*parts, _conclusion(topic, pair)])


def _conclusion(topic: Topic, pair: Pair) -> str:
    if forbids(topic.tags, pair):
        return "So it forbids help."
    if not topic.helpfulness:
        return "So it allows help."
    return "So it wants help." if pair.harm is None else "So it says nothing here."


def reading(topic: Topic, pair: Pair) -> str:
    """Everything a critic and a judge say before they look at an answer."""
    return f"{restate(topic)} {name_request(pair)} {weigh(topic, pair)}"


def critique(topic: Topic, pair: Pair, kind: AnswerKind) -> str:
    """The critique of an answer under a principle."""
    closing = CHANGE if breaches(topic.tags, pair, kind) else CLEAR
    return f"{reading(topic, pair)} The answer {DEED[kind]}. {closing}"


def revised_kind(topic: Topic, pair: Pair, kind: AnswerKind) -> AnswerKind:
    """What kind of answer the revision is."""
    if not breaches(topic.tags, pair, kind):
        return kind
    return "refuse" if forbids(topic.tags, pair) else "comply"


def judgement(topic: Topic, pair: Pair, first: AnswerKind, second: AnswerKind) -> str:
    """A judge's reasoning about answers A and B: it names the better one, and the frame's verdict follows."""
    facts = f"{reading(topic, pair)} Answer A {DEED[first]}. Answer B {DEED[second]}."
    difference = utility(topic.tags, pair, first) - utility(topic.tags, pair, second)
    if difference == 0:
        return f"{facts} Neither is better."
    (better, name), worse = ((first, "A"), second) if difference > 0 else ((second, "B"), first)
    return f"{facts} Here {GERUND[better]} is better than {GERUND[worse]}, so it is {name}."


def log_odds(topic: Topic, pair: Pair, first: AnswerKind, second: AnswerKind) -> float:
    """The true log-odds that the judge names the first answer (Bradley-Terry with a bias for the first)."""
    return SHARPNESS * (utility(topic.tags, pair, first) - utility(topic.tags, pair, second)) + BIAS
