"""Carry out the steps of a run in order: skip what is done, go on where it broke off, load each model once.

The single commands are the same code with one step.
"""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cai import manifest, runs, trained
from cai.counts import reasons
from cai.dry_run import show
from cai.engines import Engine, Session
from cai.errors import CaiError, suggest
from cai.evals import Number, VerdictRow
from cai.evals._numbers import to_json
from cai.ledger import Ledger, State, chain, made_from
from cai.pipeline import Link, run
from cai.progress import Reporter, reporter
from cai.rows import WHOLE
from cai.steps import EvalStep, StageStep, Step, TrainStep, items_of, surveyed


@dataclass(frozen=True, kw_only=True)
class Options:
    """`redo` names steps to make anew; `strict` stops at the first bad row instead of rejecting it."""

    redo: Collection[str] = ()
    dry_run: bool = False
    strict: bool = False
    quiet: bool = False


@dataclass(kw_only=True)
class Sessions:
    """The open sessions, one an engine. Whoever asks for a session first opens it."""

    held: list[tuple[Engine, Session]] = field(default_factory=list)

    def opener(self, engine: Engine | None) -> Callable[[], Session] | None:
        if engine is None:
            return None

        def session() -> Session:
            for known, opened in self.held:
                if known == engine:
                    return opened
            self.held.append((engine, engine.open()))
            return self.held[-1][1]

        return session

    def keep(self, engines: Collection[Engine | None]) -> None:
        """Close every session but those of `engines`: their models leave the device.

        One that can go on as an engine which has no session yet takes over its weights instead.
        """
        wanted = [engine for engine in engines if engine is not None]
        kept = [(engine, session) for engine, session in self.held if engine in wanted]
        for engine, session in self.held:
            if engine in wanted:
                continue
            missing = [other for other in wanted if all(other != known for known, _ in kept)]
            heir = next((other for other in missing if _become(session, other)), None)
            if heir is None:
                session.close()
            else:
                kept.append((heir, session))
        self.held = kept

    def close(self) -> None:
        self.keep(())


def _become(session: Session, engine: Engine) -> bool:
    """Let a session go on as another engine, if it knows how and that is possible."""
    become: Callable[[Engine], bool] | None = getattr(session, "become", None)
    return become is not None and become(engine)


def execute(steps: Sequence[Step], options: Options) -> None:
    """Run the steps. Raises `CaiError` for what the user can put right; what is done by then stays done.

    A step to redo takes along all that is made from it: that is thrown away first, so that a run which is
    broken off in the middle goes on without a second redo.
    """
    check_redo(steps, options.redo)
    redone = made_from(steps, options.redo)
    planned = plan(steps, [step.output for step in redone])
    if options.dry_run:
        show(steps, planned)
        return
    for step in redone:
        (trained.discard if isinstance(step, TrainStep) else runs.discard)(step.output)
    ledger = Ledger()
    with reporter(options.quiet) as report, closing(Sessions()) as sessions:
        left = list(steps)
        while left:
            done = _next(left, ledger, sessions, options, report)
            left = left[done:]


def plan(steps: Sequence[Step], gone: Collection[Path] = ()) -> dict[str, State]:
    """What is left to do for each step, as far as can be known; whatever can be found wrong by now is."""
    ledger = Ledger(gone=gone)
    return {step.name: ledger.settle(step).state for step in steps}


def check_redo(steps: Sequence[Step], redo: Collection[str]) -> None:
    """`CaiError` when a step to be made anew is none of the steps."""
    known = [step.name for step in steps]
    for name in redo:
        if name not in known:
            raise CaiError(f"no step is called '{name}'", where="--redo", next=suggest(name, known))


def check_rows(steps: Sequence[Step]) -> None:
    """`CaiError` for a step that was carried out and rejected every item: nothing can be made from that.

    A shard may be so, for it may hold few. Among many combinations of a sweep one may be so, too.
    """
    for step in steps:
        if isinstance(step, TrainStep) or step.shard is not None:
            continue
        counts = (manifest.read(step.output) or {})["counts"]
        if counts["rejects"] and not counts["rows"]:
            what = f"every item was rejected ({reasons(counts['rejects'])})"
            raise CaiError(what, where=str(step.output), next=f"{manifest.rejects_of(step.output)} says why")


def _next(
    steps: Sequence[Step], ledger: Ledger, sessions: Sessions, options: Options, report: Reporter
) -> int:
    """Carry out what stands at the head of the steps; how many of them that was."""
    head = steps[0]
    if isinstance(head, TrainStep):
        _train(head, ledger, sessions, report)
        return 1
    if isinstance(head, EvalStep):
        _eval(head, ledger, sessions, options, report)
        return 1
    linked = chain(steps)
    _stages(linked, ledger, sessions, options, report)
    return len(linked)


def _settled(step: Step, ledger: Ledger) -> tuple[bool, dict[str, Any]]:
    """Whether the step is done, and its identity."""
    entry = ledger.settle(step)
    # Whatever the step hangs on was made before it, so nothing is left to wait for.
    assert entry.identity is not None
    return entry.state == "done", entry.identity


def _stages(
    steps: Sequence[StageStep], ledger: Ledger, sessions: Sessions, options: Options, report: Reporter
) -> None:
    """Run a chain of stages as one stream."""
    settled = [_settled(step, ledger) for step in steps]
    if not all(done for done, _ in settled):
        sessions.keep([step.engine for step in steps])
        links = [
            Link(
                stage=surveyed(step, strict=options.strict),
                path=step.output,
                identity=identity,
                session=sessions.opener(step.engine),
            )
            for step, (_, identity) in zip(steps, settled, strict=True)
        ]
        first = steps[0]
        source = items_of(first, strict=options.strict)
        run(links, source, on_progress=report.stages(steps))
    for step, (done, _) in zip(steps, settled, strict=True):
        report.made(step.output, anew=not done)


def _train(step: TrainStep, ledger: Ledger, sessions: Sessions, report: Reporter) -> None:
    """Train, with every model off the device: the training needs it."""
    done, identity = _settled(step, ledger)
    if not done:
        sessions.close()
        trained.train(step, identity, report.training(step.name))
    ledger.made(step)
    report.trained(step.output, anew=not done, sampled=step.samples)


def _eval(step: EvalStep, ledger: Ledger, sessions: Sessions, options: Options, report: Reporter) -> None:
    """Collect the verdicts, then the numbers that follow from them."""
    done, identity = _settled(step, ledger)
    if not done:
        sessions.keep([step.engine])
        link = Link(
            stage=step.eval, path=step.output, identity=identity, session=sessions.opener(step.engine)
        )
        source = items_of(step, strict=options.strict)
        run([link], source, on_progress=report.stages([step]))
    check_rows([step])
    # A kill between the two leaves the verdicts without their numbers.
    if "numbers" not in (manifest.read(step.output) or {}):
        numbers = list(map(to_json, _numbers(step)))
        manifest.add(step.output, numbers=numbers, headline=list(step.eval.headline))
    report.made(step.output, anew=not done)


def _numbers(step: EvalStep) -> list[Number]:
    """What the verdicts of a step come to, and what stands beside its inputs if it read the whole of them."""
    try:
        numbers = step.eval.numbers(_verdicts(step.output))
    except CaiError as error:
        without = f"these verdicts have no numbers: {error.what}"
        next_step = f"{error.next}, and give {runs.redo(step.name)}"
        raise CaiError(without, where=str(step.output), next=next_step) from error
    beside: Callable[[Sequence[Path]], list[Number]] | None = getattr(step.eval, "beside", None)
    whole = step.limit is None and step.part == WHOLE and step.shard is None
    return [*numbers, *beside(step.inputs)] if beside and whole else numbers


def _verdicts(path: Path) -> Iterator[VerdictRow]:
    with path.open("rb") as file:
        for line in file:
            yield json.loads(line)
