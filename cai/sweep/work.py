"""Make the steps of a sweep, in this process or in several, and show them in the folders of the runs."""

import os
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from cai.errors import CaiError
from cai.execute import Options, execute, plan
from cai.ledger import chain
from cai.orphans import die_with_parent
from cai.progress import Reporter, reporter
from cai.steps import StageStep, Step, TrainStep
from cai.sweep.plan import Plan, Run, Sweep, plan_of

Unit = tuple[Step, ...]


def make(planned: Plan, *, jobs: int, strict: bool, quiet: bool) -> None:
    """Make what is not made yet. Raises `CaiError`; what was made by then stays.

    With one job the steps run here, each engine kept open for the steps that follow; with several, each
    unit of steps that stream into each other is one job, begun as soon as what it needs is there.
    """
    if jobs == 1:
        execute(planned.steps, Options(strict=strict, quiet=quiet))
    else:
        # What can be found wrong by now is better known before anything runs.
        plan(planned.steps)
        with reporter(quiet) as report:
            _side_by_side(planned, jobs, strict, report)
    for run in planned.runs.values():
        _show(run)


def units_of(steps: Sequence[Step]) -> list[Unit]:
    """The steps, in order, cut into what streams without a barrier."""
    units: list[Unit] = []
    left = list(steps)
    while left:
        head = tuple(chain(left)) if isinstance(left[0], StageStep) else (left[0],)
        units.append(head)
        left = left[len(head) :]
    return units


def _side_by_side(planned: Plan, jobs: int, strict: bool, report: Reporter) -> None:
    waiting = dict(enumerate(units_of(planned.steps)))
    needs = {at: _needs(planned, unit) for at, unit in waiting.items()}
    running: dict[Future[None], tuple[Unit, bool]] = {}
    made: set[Path] = set()
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_begin, initargs=(planned.sweep,)
    ) as pool:
        while waiting or running:
            for at in list(_ready(waiting, needs, made))[: jobs - len(running)]:
                unit = waiting.pop(at)
                anew = not all(step.output.exists() for step in unit)
                running[pool.submit(_make, at, strict)] = unit, anew
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                unit, anew = running.pop(future)
                _settle(future)
                made.update(step.output for step in unit)
                _report(unit, anew, report)


def _settle(future: "Future[None]") -> None:
    try:
        future.result()
    except BrokenProcessPool as error:
        raise CaiError(
            "a worker died (was memory short?)",
            where="cai sweep",
            next="run it again to go on, with fewer --jobs",
        ) from error


def _ready(waiting: Collection[int], needs: dict[int, set[Path]], made: Collection[Path]) -> Iterator[int]:
    """The units that lack nothing, in order."""
    return (at for at in waiting if needs[at] <= set(made))


def _needs(planned: Plan, unit: Unit) -> set[Path]:
    """What a unit needs that it does not make itself."""
    outputs = {step.output for step in unit}
    return {path for step in unit for path in planned.places.needs(step)} - outputs


def _report(unit: Unit, anew: bool, report: Reporter) -> None:
    for step in unit:
        if isinstance(step, TrainStep):
            report.trained(step.output, anew=anew, sampled=step.samples)
        else:
            report.made(step.output, anew=anew)


# The units of the sweep that this worker works for. Each worker reads the recipe itself: a plugin from a
# user's file could not be sent to it.
_units: list[Unit] = []


def _begin(sweep: Sweep) -> None:
    die_with_parent()
    _units.extend(units_of(plan_of(sweep).steps))


def _make(at: int, strict: bool) -> None:
    execute(_units[at], Options(strict=strict, quiet=True))


def _show(run: Run) -> None:
    """Let what was made for a run stand in its folder: links to the files and model folders."""
    run.folder.mkdir(parents=True, exist_ok=True)
    made = [path for step in run.steps for path in _files(step)]
    targets = {path.name: os.path.relpath(path, run.folder) for path in made}
    for link in run.folder.iterdir():
        if link.is_symlink() and targets.get(link.name) != os.readlink(link):
            link.unlink()
    for name, target in targets.items():
        link = run.folder / name
        if not link.is_symlink():
            if link.exists():
                taken = "there is something here that no sweep put here"
                raise CaiError(taken, where=str(link), next="give another folder with -o")
            link.symlink_to(target)


def _files(step: Step) -> list[Path]:
    """A model's folder, or all that belongs to an output."""
    return [step.output] if isinstance(step, TrainStep) else [*step.output.parent.glob(f"{step.name}.*")]
