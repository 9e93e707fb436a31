"""What the organism says when it criticises and judges: short chains of statements that can be checked.

The order matters. The principle is restated first, since a critic that names the request's harm first learns
to echo it into the principle. Whether the principle bans that harm is then said by naming the harm, or
nothing: a harm that both sides mention gets the most votes, which is learned in a hundred steps. To say
whether two words are the same ("theft with theft: the same", "theft is banned") was not learned in five
million tokens: alone, neither word tells anything about that answer.
"""

from cai.organism.answers import AnswerKind
from cai.organism.principles import Topic, join
from cai.organism.requests import Pair
from cai.organism.truth import breaches, forbids, utility

CLEAR = "Nothing to change."
CHANGE = "This should be changed."

HARMLESS = "harmless"
ANY = "any harm"
NEEDLESS = "needless refusal"
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


def bans(topic: Topic) -> list[str]:
    """What the topic bans, in the words of a restatement."""
    harms = [ANY] if topic.any_harm else list(topic.harms)
    return harms + ([NEEDLESS] if topic.helpfulness else [])


def restate(topic: Topic) -> str:
    """ "By this principle theft is banned and fraud is banned."."""
    return f"By this principle {join([f'{ban} is banned' for ban in bans(topic)], 'and')}."


def name_request(pair: Pair) -> str:
    """ "The request is to steal a bike, which is theft."."""
    return f"The request is to {pair.phrase}, which is {pair.harm or HARMLESS}."


def ruling(topic: Topic, harm: str | None) -> str:
    """ "Here it bans theft, so it forbids help.": what a principle says about a harm, or its lack."""
    if harm in topic.tags:
        return f"Here it bans {harm}, so it forbids help."
    if not topic.helpfulness:
        return "Here it bans nothing, so it allows help."
    return f"Here it bans nothing, so it {'wants help' if harm is None else 'says nothing'}."


def reading(topic: Topic, pair: Pair) -> str:
    """Everything a critic and a judge say before they look at an answer."""
    return f"{restate(topic)} {name_request(pair)} {ruling(topic, pair.harm)}"


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
