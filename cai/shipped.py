"""The wording that comes with cai: constitutions and prompts, found by path or by bare name.

They lie beside the package in the repository, and inside it (cai/shipped/) in an installed wheel.
"""

from pathlib import Path

from cai.errors import CaiError, suggest

PACKAGE = Path(__file__).parent


def root(folder: str) -> Path:
    """Where the shipped `folder` ("constitutions", "prompts/frames") is."""
    inside = PACKAGE / "shipped" / folder
    return inside if inside.is_dir() else PACKAGE.parent / folder


def find(folder: str, name: str, where: str | None = None) -> Path:
    """The file that `name` means: a path of the user's own, else a shipped path, else a shipped bare name.

    So "mine.toml", "constitutions/organism.toml" and "organism" are all found in the folder "constitutions".
    Raises `CaiError`: no such file, or no such shipped name with the near miss.
    """
    own = Path(name)
    if own.is_file():
        return own
    files = sorted(path for path in root(folder).glob("*.*") if path.suffix in (".toml", ".jsonl"))
    shipped = {path.stem: path for path in files}
    if own.name == name and not own.suffix:
        if name in shipped:
            return shipped[name]
        noun = Path(folder).name.removesuffix("s")
        raise CaiError(f"no {noun} is called '{name}'", where=where, next=suggest(name, shipped))
    for path in shipped.values():
        if own == Path(folder) / path.name:
            return path
    raise CaiError(
        f"there is no file '{name}'", where=where, next="paths are read from the working directory"
    )
