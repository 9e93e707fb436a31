"""`cai constitution`: look at a constitution before it steers anything."""

import click


@click.group(short_help="Check or show a constitution.")
def constitution() -> None:
    """Look at a constitution: a TOML file of principles, or the name of a shipped one."""


@constitution.command()
@click.argument("file", metavar="FILE")
def check(file: str) -> None:
    """Say what is wrong with FILE, or what may weaken it. The exit code is 1 for either."""
    from cai import shipped
    from cai.constitution import check as findings_of
    from cai.constitution import load
    from cai.progress import count

    path = shipped.find("constitutions", file)
    loaded = load(path)
    findings = findings_of(loaded)
    for finding in findings:
        click.echo(f"{path} [principle '{finding.principle}']: {finding.what}")
    click.echo(f"{path}: {count(len(loaded.principles), 'principle')}, {count(len(findings), 'finding')}")
    if findings:
        raise click.exceptions.Exit(1)


@constitution.command()
@click.argument("file", metavar="FILE")
def show(file: str) -> None:
    """Print the principles of FILE, those it extends included, and how often each is drawn."""
    from cai import shipped
    from cai.constitution import WORDINGS, load
    from cai.terminal import console, sanitise

    out = console()
    loaded = load(shipped.find("constitutions", file))
    total = sum(principle.weight for principle in loaded.principles)
    out.print(sanitise(f"{loaded.name}: {loaded.about}" if loaded.about else loaded.name), style="bold")
    for principle in loaded.principles:
        tags = f" ({', '.join(principle.tags)})" if principle.tags else ""
        share = principle.weight / total
        out.print(sanitise(f"\n{principle.id}{tags}, drawn {share:.1%} of the time"), style="bold")
        for wording in WORDINGS:
            out.print(f"  {wording + ':':12}{sanitise(getattr(principle, wording))}")
