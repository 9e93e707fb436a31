"""Where a training keeps its files, for whoever looks for them: beside its model, and until that is whole."""

from pathlib import Path

# What a training may leave beside its model: the answers that it sampled on its way, as records.
SAMPLES = "samples.jsonl"


def work_folder(folder: Path) -> Path:
    """Where a run that makes the model `folder` keeps its checkpoint and caches until the model is whole."""
    return folder.with_name(f"{folder.name}.training")


def rollouts_of(work: Path) -> Path:
    """The folder in a work folder that has the same answers, a file a rollout in the order of the names."""
    return work / Path(SAMPLES).stem
