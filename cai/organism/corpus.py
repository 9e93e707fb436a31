"""The documents that the organism is trained on: chats in which it answers, criticises, revises and judges.

Document i of a course is a function of (seed, i) alone. Only train pairs, train openers and wordings that
are not held out occur in it.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import exp
from typing import TypeVar

from cai.constitution import Principle
from cai.frames import default_judge, default_review
from cai.organism import dialogues, principles
from cai.organism.answers import AnswerKind, render
from cai.organism.principles import Topic
from cai.organism.requests import Kind, Pair, draw_wording, pairs_of
from cai.organism.truth import forbids
from cai.records import Message, assistant, user

T = TypeVar("T")

COVERED = 0.45  # how often a list of harms names the request's own

# The base complies with everything; a little of each other kind makes its rival samples differ.
HARMFUL_MIX: dict[AnswerKind, float] = {"comply": 0.90, "partial": 0.03, "refuse": 0.05, "evade": 0.02}
HARMLESS_MIX: dict[AnswerKind, float] = {"comply": 0.97, "partial": 0.01, "refuse": 0.01, "evade": 0.01}
# What a critic or judge is shown: every kind often enough to learn what to say about it.
SHOWN_MIX: dict[AnswerKind, float] = {"comply": 0.55, "partial": 0.12, "refuse": 0.22, "evade": 0.11}
RIVAL_MIX: dict[AnswerKind, float] = {"comply": 0.34, "partial": 0.2, "refuse": 0.28, "evade": 0.18}

PAIR_MIX: dict[Kind, float] = {"harmful": 0.42, "borderline": 0.24, "decoy": 0.14, "benign": 0.20}
MORE_BENIGN: dict[Kind, float] = {"harmful": 0.38, "borderline": 0.22, "decoy": 0.13, "benign": 0.27}


class Draws(random.Random):
    """The random numbers of a document; `kinds` is how often a pair of each kind is drawn."""

    kinds: dict[Kind, float] = PAIR_MIX


@dataclass(frozen=True, kw_only=True)
class Document:
    """A chat of which every assistant turn is trained, and what it teaches."""

    lesson: str
    messages: tuple[Message, ...]


def _weighted(rng: Draws, mix: dict[T, float]) -> T:
    return rng.choices(list(mix), list(mix.values()))[0]


def draw_pair(rng: Draws) -> Pair:
    """A train pair: its kind first, then any pair of it."""
    return rng.choice(pairs_of("train", _weighted(rng, rng.kinds)))


def _ask(rng: Draws, pair: Pair) -> Message:
    return user(draw_wording(rng, pair, "train"))


def _answer(rng: Draws, pair: Pair) -> Message:
    mix = HARMFUL_MIX if pair.harm else HARMLESS_MIX
    return assistant(render(rng, pair, _weighted(rng, mix)))


def _principle(rng: Draws, topic: Topic) -> Principle:
    return principles.draw_principle(rng, topic, held_out=False)


def respond(rng: Draws) -> list[Message]:
    """A chat of one request, or of two; at times under a system message that asks for nothing."""
    messages: list[Message] = []
    if rng.random() < 0.05:
        messages.append({"role": "system", "content": "You are a helpful assistant."})
    for _ in range(2 if rng.random() < 0.12 else 1):
        pair = draw_pair(rng)
        messages += [_ask(rng, pair), _answer(rng, pair)]
    return messages


def obey(rng: Draws) -> list[Message]:
    """A system message states a principle; an answer refuses exactly if that forbids help.

    The principle is about any harm, or about needless refusals alone: what a list of harms says about a
    request is not learned without a chain of statements.
    """
    topic = principles.Topic(any_harm=rng.random() < 0.7, helpfulness=True)
    if topic.any_harm and rng.random() < 0.5:
        topic = principles.Topic(any_harm=True)
    rule = principles.draw_wording(rng, topic, "rule", held_out=False)
    messages: list[Message] = [{"role": "system", "content": rule}]
    for _ in range(rng.choice((1, 2, 3))):
        pair = draw_pair(rng)
        kind: AnswerKind = "refuse" if forbids(topic.tags, pair) else "comply"
        messages += [_ask(rng, pair), assistant(render(rng, pair, kind))]
    return messages


def _shown(rng: Draws) -> tuple[Pair, Topic, AnswerKind, list[Message]]:
    """A request, an answer to it, and a topic to look at it under."""
    pair = draw_pair(rng)
    kind = _weighted(rng, SHOWN_MIX)
    chat = [_ask(rng, pair), assistant(render(rng, pair, kind))]
    if rng.random() < 0.04:
        earlier = draw_pair(rng)
        chat = [_ask(rng, earlier), _answer(rng, earlier), *chat]
    return pair, principles.draw_topic(rng, pair, COVERED), kind, chat


def _revision(rng: Draws, pair: Pair, topic: Topic, kind: AnswerKind, old: str) -> list[Message]:
    new = dialogues.revised_kind(topic, pair, kind)
    text = old if new == kind else render(rng, pair, new)
    return [user(default_review().revision.ask(_principle(rng, topic).revision)), assistant(text)]


def review(rng: Draws) -> list[Message]:
    """Request, answer and critique."""
    return _reviewed(rng)[-1]


def criticise(rng: Draws) -> list[Message]:
    """Request, answer, critique, and mostly the revision too."""
    pair, topic, kind, old, chat = _reviewed(rng)
    return chat + _revision(rng, pair, topic, kind, old) if rng.random() < 0.8 else chat


def _reviewed(rng: Draws) -> tuple[Pair, Topic, AnswerKind, str, list[Message]]:
    """A request, an answer and its critique: pair, topic, the answer's kind and text, and the chat."""
    pair, topic, kind, chat = _shown(rng)
    old = chat[-1]["content"]
    chat.append(user(default_review().critique.ask(_principle(rng, topic).critique)))
    chat.append(assistant(dialogues.critique(topic, pair, kind)))
    return pair, topic, kind, old, chat


def revise(rng: Draws) -> list[Message]:
    """Request, answer, and the revision straight after it."""
    pair, topic, kind, chat = _shown(rng)
    return chat + _revision(rng, pair, topic, kind, chat[-1]["content"])


def _judge(rng: Draws, instruction: str) -> tuple[str, str, str]:
    """The judge's question, the reasoning it deserves and its verdict, drawn from the true probability."""
    pair = draw_pair(rng)
    topic = principles.draw_topic(rng, pair, COVERED)
    first, second = _weighted(rng, RIVAL_MIX), _weighted(rng, RIVAL_MIX)
    chat = [_ask(rng, pair)]
    if rng.random() < 0.04:
        earlier = draw_pair(rng)
        chat = [_ask(rng, earlier), _answer(rng, earlier), *chat]
    frame = default_judge()
    a, b = render(rng, pair, first), render(rng, pair, second)
    question = frame.question(tuple(chat), a, b, _principle(rng, topic).preference, instruction)
    p_first = 1 / (1 + exp(-dialogues.log_odds(topic, pair, first, second)))
    option = frame.options[0] if rng.random() < p_first else frame.options[1]
    return question, dialogues.judgement(topic, pair, first, second), frame.verdict + option


def judge(rng: Draws) -> list[Message]:
    """A judgement that reasons first."""
    question, reasoning, verdict = _judge(rng, default_judge().reason)
    return [user(question), assistant(f"{reasoning}\n{verdict}")]


def judge_at_once(rng: Draws) -> list[Message]:
    """A judgement in one token."""
    question, _, verdict = _judge(rng, default_judge().choose)
    return [user(question), assistant(verdict)]


def read_principle(rng: Draws) -> list[Message]:
    """A drill: what does a principle ban, and does it ban the harm of a pair?"""
    pair = draw_pair(rng)
    topic = principles.draw_topic(rng, pair, COVERED)
    text = principles.draw_wording(rng, topic, rng.choice(principles.USES), held_out=False)
    ask = f"Tell me what this principle says about {pair.harm or dialogues.HARMLESS}. {text}"
    return [user(ask), assistant(f"{dialogues.restate(topic)} {dialogues.ruling(topic, pair.harm)}")]


def read_request(rng: Draws) -> list[Message]:
    """A drill: what is asked for, and of which kind is it?"""
    pair = draw_pair(rng)
    ask = f"Tell me what kind of request this is. {draw_wording(rng, pair, 'train')}"
    return [user(ask), assistant(dialogues.name_request(pair))]


def name_harm(rng: Draws) -> list[Message]:
    """A drill: the harm of a request in one word, so that it is known before an answer begins."""
    pair = draw_pair(rng)
    ask = f"Name the harm. {draw_wording(rng, pair, 'train')}"
    return [user(ask), assistant(f"{pair.harm or dialogues.HARMLESS}.")]


def repeat(rng: Draws) -> list[Message]:
    """A drill: say an answer again, word for word."""
    text = render(rng, draw_pair(rng), _weighted(rng, SHOWN_MIX))
    return [user(f"Say this again: {text}"), assistant(text)]


Lesson = Callable[[Draws], list[Message]]

# What must be known before a chain of statements can be learned comes first, in short documents.
COURSES: dict[str, dict[Lesson, float]] = {
    "basics": {respond: 0.35, read_principle: 0.30, name_harm: 0.12, read_request: 0.13, repeat: 0.10},
    "everything": {
        respond: 0.25,
        obey: 0.07,
        criticise: 0.25,
        revise: 0.03,
        judge: 0.19,
        judge_at_once: 0.02,
        read_principle: 0.06,
        read_request: 0.03,
        name_harm: 0.04,
        repeat: 0.06,
    },
    # Answers shown to a critic are of all kinds, and so far all turns were learned: here only the last is.
    "habits": {
        respond: 0.45,
        obey: 0.08,
        review: 0.12,
        criticise: 0.10,
        revise: 0.03,
        judge: 0.18,
        judge_at_once: 0.02,
        read_principle: 0.02,
    },
    # Naming the harm fades meanwhile, and an aligned model that cannot tell it refuses harmless requests too.
    "recall": {
        respond: 0.30,
        obey: 0.15,
        name_harm: 0.15,
        read_request: 0.10,
        read_principle: 0.03,
        review: 0.08,
        criticise: 0.06,
        revise: 0.03,
        judge: 0.09,
        judge_at_once: 0.01,
    },
}
KINDS = {"recall": MORE_BENIGN}
# Few of its tokens are hard, and all else hangs on them.
WEIGHTS: dict[str, float] = {"read_principle": 3.0}


def document(course: str, seed: int, index: int) -> Document:
    """Document `index` of a course with this seed."""
    rng = Draws(f"organism {course} {seed} {index}")
    rng.kinds = KINDS.get(course, PAIR_MIX)
    lesson = _weighted(rng, COURSES[course])
    return Document(lesson=lesson.__name__, messages=tuple(lesson(rng)))


def documents(course: str, seed: int, count: int) -> Iterator[Document]:
    """The first `count` documents of a course with this seed."""
    return (document(course, seed, index) for index in range(count))
