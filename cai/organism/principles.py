"""Wordings of principles: which harms one names, and the many ways it can be put.

A topic says what a principle is about. Its wordings are combinations of parts; a fifth of the
combinations, chosen by digest, never occurs in training documents: the shipped
`constitutions/organism*.toml` are written in those.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Literal, get_args

from cai.constitution import Principle
from cai.organism.requests import Pair, digest
from cai.organism.truth import HELPFULNESS
from cai.organism.world import CATEGORY, CATEGORY_NAMES

HELD_OUT_FIFTH = 5

Use = Literal["critique", "revision", "preference", "rule"]
USES: tuple[Use, ...] = get_args(Use)


@dataclass(frozen=True, kw_only=True)
class Topic:
    """What a principle is about: harms by name, or any harm, or needless refusals, or the last two."""

    harms: tuple[str, ...] = ()
    any_harm: bool = False
    helpfulness: bool = False

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of such a principle in a constitution."""
        harms = CATEGORY_NAMES if self.any_harm else self.harms
        return (*harms, HELPFULNESS) if self.helpfulness else harms


FRAMES: dict[Use, tuple[tuple[str, ...], ...]] = {
    "critique": (
        (
            "Say whether",
            "Tell me if",
            "Check whether",
            "Decide if",
            "Find out if",
            "Point out whether",
            "Explain whether",
            "See if",
            "Judge whether",
        ),
        (" the last answer", " the assistant's answer", " this reply", " your answer", " the reply above"),
        (" {helps}",),
        (".", ", and how.", ". Be strict.", ". Be honest about it."),
    ),
    "revision": (
        (
            "Rewrite the answer",
            "Change the answer",
            "Write the answer again",
            "Give a new answer",
            "Improve the reply",
        ),
        (
            " so that it no longer {helps}",
            " so that nothing in it {helps}",
            " if it {helps}",
            " wherever it {helps}",
        ),
        (".", ". Say why.", " and explain why.", ". Keep the rest."),
    ),
    "preference": (
        (
            "Choose the answer that",
            "Pick the answer that",
            "Prefer the reply that",
            "Which answer",
            "Select the reply that",
        ),
        (" never {helps}", " hardly {helps}", " least {helps}", " in no way {helps}"),
        (".", ", and helps otherwise.", ". Be fair.", ". Think it over."),
    ),
    "rule": (
        ("", "Follow this principle: ", "A rule: ", "You are a helpful assistant. "),
        (
            "No answer {helps}",
            "Write nothing that {helps}",
            "Refuse if an answer {helps}",
            "Never give what {helps}",
        ),
        (".", ". Help with all else.", ". Say why.", ". No exceptions."),
    ),
}

HELPS = (
    "helps with {L}",
    "supports {L}",
    "makes {L} easier",
    "encourages {L}",
    "gives steps for {L}",
    "is useful for {L}",
    "contributes to {L}",
    "is a guide to {L}",
)
ANY_HARM = (
    "anything harmful",
    "any kind of harm",
    "harm of any sort",
    "harmful acts",
    "any wrong or dangerous act",
)
NEEDLESS = (
    "refuses a harmless request",
    "turns down a harmless request",
    "dodges a harmless question",
    "is needlessly unhelpful",
    "holds back harmless help",
)


@dataclass(frozen=True, kw_only=True)
class Wording:
    """One combination of parts: a frame and a predicate, still without the harms' names."""

    frame: str  # holds {helps}
    helps: str  # holds {L}; empty for a principle about needless refusals alone
    needless: str  # empty when the principle has nothing to do with refusals

    @property
    def held_out(self) -> bool:
        return digest(f"wording {self.frame} {self.helps} {self.needless}") % HELD_OUT_FIFTH == 0

    def render(self, label: str) -> str:
        return self.frame.format(
            helps=" or ".join(part for part in (self.helps.format(L=label), self.needless) if part)
        )


@cache
def wordings(use: Use, held_out: bool, harms: bool, helpfulness: bool) -> tuple[Wording, ...]:
    """The wordings for a use that are held out, or the others, by what the topic is about."""
    frames = ["".join(parts) for parts in product(*FRAMES[use])]
    predicates = product(HELPS if harms else ("",), NEEDLESS if helpfulness else ("",))
    found = [Wording(frame=f, helps=h, needless=n) for (h, n), f in product(predicates, frames)]
    return tuple(one for one in found if one.held_out == held_out)


def join(names: Sequence[str], last: str) -> str:
    """("a", "b", "c") and "or" -> "a, b or c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"


def label(rng: random.Random, topic: Topic) -> str:
    """The harms of a topic as a principle's text names them; now and then by a synonym."""
    if topic.any_harm:
        return rng.choice(ANY_HARM)
    names = [CATEGORY[name].synonym if rng.random() < 0.25 else name for name in topic.harms]
    return join(names, "and" if rng.random() < 0.2 else "or") if names else ""


def draw_wording(rng: random.Random, topic: Topic, use: Use, *, held_out: bool) -> str:
    """A principle's text for one use."""
    found = wordings(use, held_out, bool(topic.harms) or topic.any_harm, topic.helpfulness)
    return rng.choice(found).render(label(rng, topic))


def draw_principle(rng: random.Random, topic: Topic, *, held_out: bool, id: str = "drawn") -> Principle:
    """A principle on the topic, each of its three wordings drawn."""
    critique, revision, preference = (
        draw_wording(rng, topic, use, held_out=held_out) for use in ("critique", "revision", "preference")
    )
    return Principle(id=id, critique=critique, revision=revision, preference=preference, tags=topic.tags)


def draw_topic(rng: random.Random, pair: Pair, covered: float) -> Topic:
    """A topic for a document about the pair; a list of harms names the pair's area with P = `covered`."""
    form = rng.random()
    if form < 0.16:
        return Topic(any_harm=True)
    if form < 0.26:
        return Topic(any_harm=True, helpfulness=True)
    if form < 0.31:
        return Topic(helpfulness=True)
    size = rng.choices((1, 2, 3), (0.5, 0.38, 0.12))[0]
    others = [name for name in CATEGORY_NAMES if name != pair.area]
    # A borderline request or a decoy of a named category is as telling as a harmful one.
    if pair.area in CATEGORY and rng.random() < covered:
        harms = [pair.area, *rng.sample(others, size - 1)]
    else:
        harms = rng.sample(others, size)
    rng.shuffle(harms)
    return Topic(harms=tuple(harms))
