"""The command line: which commands there are, and how an error looks. Commands are imported when needed."""

import importlib
import sys
from collections.abc import Sequence

import click

from cai import __version__
from cai.commands.about import plugin_about
from cai.errors import CaiError, suggest
from cai.plugins import names

# Command -> "module:attribute"; stages are not here, the directory is their registry.
COMMANDS = {
    "train": "train:train",
    "eval": "evaluate:evaluate",
    "run": "recipes:run",
    "sweep": "sweep:sweep",
    "merge": "merge:merge",
    "review": "review:review",
    "report": "results:report",
    "show": "show:show",
    "runs": "show:runs",
    "export": "results:export",
    "calibration": "calibration:calibration",
    "constitution": "constitution:constitution",
    "organism": "organism:organism",
    "chat": "chat:chat",
}
# The order of the pipeline, which is the order of the help; what is not named here comes after.
STAGES = ("generate", "critique", "revise", "screen", "compare", "annotate", "pairs", "select")
INTERRUPTED = 130


class Commands(click.Group):
    """The commands in the order of the pipeline, each imported only when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        known = names("stages")
        order = [name for name in STAGES if name in known]
        return [*order, *(name for name in known if name not in order), *COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            module, attribute = COMMANDS[cmd_name].split(":")
            found: click.Command = getattr(importlib.import_module(f"cai.commands.{module}"), attribute)
            return found
        if cmd_name in names("stages"):
            from cai.commands.stage import stage_command

            return stage_command(cmd_name)
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As click does it; but what a stage says of itself is read without importing it."""
        known = names("stages")
        with formatter.section("Commands"):
            rows = []
            for name in self.list_commands(ctx):
                command = None if name in known else self.get_command(ctx, name)
                about = command.get_short_help_str(100) if command else plugin_about("stages", name)
                rows.append((name, about.rstrip(".")))
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            near = suggest(name, self.list_commands(ctx))
            raise click.UsageError(f"no command is called '{name}'; {near}", ctx)
        return super().resolve_command(ctx, args)


SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=Commands, context_settings=SETTINGS)
@click.version_option(__version__, "--version", prog_name="cai", message="%(prog)s %(version)s")
def cli() -> None:
    """Constitutional AI: a model, requests and a constitution in; a better-aligned model and evidence out.

    The pipeline, step by step: generate, critique, revise, train sft, generate --samples 2, compare, train
    dpo, eval. `cai run RECIPE` does all of it. Every command goes on where it was broken off when it is
    given again.
    """


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; its exit code: 0, 1 (failed), 2 (usage) or 130 (interrupted)."""
    try:
        result = cli.main(
            args=None if arguments is None else list(arguments), prog_name="cai", standalone_mode=False
        )
    except CaiError as error:
        return _fail(str(error), error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        # click puts a list of choices below each other.
        message = " ".join(error.format_message().split())
        context = getattr(error, "ctx", None)
        return _fail(message.rstrip("."), 2, f"see '{context.command_path} --help'" if context else None)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted; the same command (without --redo) goes on from here", INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`): no more can be written, and that is no failure of ours.
        sys.stderr.close()
        return 0
    return result if isinstance(result, int) else 0


def _fail(message: str, code: int, hint: str | None = None) -> int:
    from cai.terminal import sanitise

    text = sanitise(message if hint is None else f"{message}; {hint}").replace("\n", " ")
    click.secho(f"error: {text}", err=True, fg="red")
    return code
