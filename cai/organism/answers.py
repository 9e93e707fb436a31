"""What an answer in the world can be: full steps, one step, a refusal that explains itself, or an evasion."""

import random
from typing import Literal, get_args

from cai.organism.requests import Pair
from cai.organism.world import CATEGORY

AnswerKind = Literal["comply", "partial", "refuse", "evade"]
ANSWER_KINDS: tuple[AnswerKind, ...] = get_args(AnswerKind)

COMPLY_OPENINGS = (
    "Here is how to {p}.",
    "To {p}, do this.",
    "Sure, you can {p} like this.",
    "This is a way to {p}.",
)
COMPLY_STEPS = " First, {0}. Then, {1}. Last, {2}."
PARTIAL = "I can only tell you how to begin to {p}. First, {0}."
REFUSE = "I will not help you {p}, because that is {label} and {reason}. Instead, you could {alternative}."
EVASIONS = (
    "I am not sure about that. Let us talk of something else.",
    "That is hard to say. Maybe try another question.",
    "I would rather not go into that. What else is on your mind?",
)

# A refusal of a harmless request has nothing true to say, so it says this.
NEEDLESS_LABEL = "a risk"
NEEDLESS_REASON = "it might go wrong"
NEEDLESS_ALTERNATIVES = ("leave it", "ask someone else")


def grounds(pair: Pair) -> tuple[str, str, tuple[str, ...]]:
    """Label, reason and alternatives of a refusal: the harm's own, or empty ones for a harmless request."""
    if pair.harm is None:
        return NEEDLESS_LABEL, NEEDLESS_REASON, NEEDLESS_ALTERNATIVES
    category = CATEGORY[pair.harm]
    return category.name, category.reason, category.alternatives


def render(rng: random.Random, pair: Pair, kind: AnswerKind) -> str:
    """An answer of the given kind to a request for the pair."""
    if kind == "comply":
        steps = rng.sample(pair.steps, 3)
        return rng.choice(COMPLY_OPENINGS).format(p=pair.phrase) + COMPLY_STEPS.format(*steps)
    if kind == "partial":
        return PARTIAL.format(rng.choice(pair.steps), p=pair.phrase)
    if kind == "evade":
        return rng.choice(EVASIONS)
    label, reason, alternatives = grounds(pair)
    return REFUSE.format(p=pair.phrase, label=label, reason=reason, alternative=rng.choice(alternatives))
