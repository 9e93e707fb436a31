"""log P of answers, asked of a server that tells log P of given tokens after a prompt."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cai.engines._requests import Reading

# An answer that is read with at most so many requests is read token by token, each of them finding the prompt
# in the cache; a longer one in a single request, for which vLLM leaves the cache unused.
NODES = 8
MOST_TOKENS = 128  # that vLLM tells of after one prompt (its MAX_LOGPROB_TOKEN_IDS)

# An answer's ids up to a token, that token included -> log P of that token there.
Logps = Mapping[tuple[int, ...], float]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One request: log P of each of `tokens` after the prompt and the ids `after`, an answer's beginning.

    `whole` says that the log-probs of the ids in `after` are asked for as well.
    """

    after: tuple[int, ...]
    tokens: tuple[int, ...]
    whole: bool


def parts(task: Reading) -> list[Part]:
    """The requests whose log-probs make up those of every answer: one for each place where an answer has a
    next token, or one for each answer's beginning when those are many.
    """
    nexts: dict[tuple[int, ...], dict[int, None]] = {}
    ends: dict[tuple[int, ...], dict[int, None]] = {}
    for answer in task.answers:
        for at, token in enumerate(answer):
            nexts.setdefault(answer[:at], {})[token] = None
        ends.setdefault(answer[:-1], {})[answer[-1]] = None
    whole = len(nexts) > NODES
    return [
        Part(after=after, tokens=run, whole=whole)
        for after, tokens in (ends if whole else nexts).items()
        for run in _runs(tuple(tokens))
    ]


def sums(task: Reading, logps: Logps) -> tuple[float, ...]:
    """log P of each answer: the sum over its tokens."""
    return tuple(sum(logps[answer[: at + 1]] for at in range(len(answer))) for answer in task.answers)


def _runs(tokens: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    for start in range(0, len(tokens), MOST_TOKENS):
        yield tokens[start : start + MOST_TOKENS]
