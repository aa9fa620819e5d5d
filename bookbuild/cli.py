"""The `bookbuild` command: its arguments, its exit status."""

import argparse
import os
import sys
import traceback

from bookbuild import commands, exercise
from bookbuild.commands import Command, rendered
from bookbuild.errors import BookError

DESCRIPTION = """\
Build a literate book: one Markdown source, four products.

Everything is made from book/**/*.md: the package in extracted/, executed notebooks, the
website, the printed book. A CHAPTER is a name such as foundations/attention."""

EPILOG = """\
exit status:
  0  done, all checks passed      2  the command or the configuration is wrong
  1  a check or a chapter failed  3  a fault of bookbuild itself      130  interrupted

a writer's day:
  bookbuild serve                             save a chapter, the open page reloads
  bookbuild execute foundations/attention     run one chapter
  bookbuild accept foundations/attention      its outputs become the reference
  bookbuild check                             drift, names, links, in a second"""

DEVICES = ("cpu", "cuda")


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; returns the exit status (see `bookbuild --help`)."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a pipe may know ASCII only
            stream.reconfigure(errors="backslashreplace")
    args = parser().parse_args(argv)
    try:
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except BookError as error:
        commands.report(error.problems, args)
        return error.exit_code
    except KeyboardInterrupt as stop:
        print(f"interrupted: {stop}".rstrip(" :"), file=sys.stderr)
        return 130
    except BrokenPipeError:  # `bookbuild … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if missing := _not_installed(error):
            print(f"error: {missing} is not installed", file=sys.stderr)
            print('hint: pip install "from-tokens-to-thought[book]"', file=sys.stderr)
            return 2
        traceback.print_exc()
        print("error: this is a fault of bookbuild; please report it", file=sys.stderr)
        return 3


def _not_installed(error: Exception) -> str:
    """The package that somebody else must install, empty for any other error."""
    name = getattr(error, "name", None) or ""
    ours = name.startswith(("bookbuild", "extracted"))
    return "" if ours or not isinstance(error, ModuleNotFoundError) else name


def parser() -> argparse.ArgumentParser:
    """The command line of `bookbuild`."""
    top = argparse.ArgumentParser(
        "bookbuild",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument(
        "--root", help="the book's folder (default: found from here upwards)"
    )
    add = _Subcommands(top)
    add.everything("book", commands.book, "tangle, execute, validate, render the site")
    _add_sources(add)
    _add_execution(add)
    for name, place, text in (
        ("html", "render.html", "render the site"),
        ("zip", "render.site_zip", "render the site into one ZIP file"),
        ("pdf", "typst.pdf", "typeset the printed book"),
        ("epub", "typst.epub", "make the e-book"),
        ("notebooks", "render.notebooks", "write .ipynb files for Jupyter"),
    ):
        module, _, function = place.partition(".")
        add.everything(name, rendered(f"bookbuild.{module}", function), text)
    _add_reader(add)
    return top


class _Subcommands:
    """Adds subcommands with the options that several of them share."""

    def __init__(self, top: argparse.ArgumentParser) -> None:
        self.group = top.add_subparsers(
            title="commands", metavar="COMMAND", required=True
        )

    def __call__(self, name: str, run: Command, text: str) -> argparse.ArgumentParser:
        description = text[0].upper() + text[1:] + "."
        command: argparse.ArgumentParser = self.group.add_parser(
            name, help=text, description=description
        )
        command.set_defaults(run=run)
        return command

    def chapters(self, name: str, run: Command, text: str) -> argparse.ArgumentParser:
        command = self(name, run, text)
        command.add_argument(
            "chapters", nargs="*", metavar="CHAPTER", help="default: all"
        )
        return command

    def everything(self, name: str, run: Command, text: str) -> None:
        command = self(name, run, text)
        command.set_defaults(chapters=[])
        running(command)


def machine(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON for a machine")


def device(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--device", choices=DEVICES, default="cpu", help="default: cpu"
    )


def running(command: argparse.ArgumentParser) -> None:
    jobs = "chapters at once (default: 1; 0: one a core)"
    command.add_argument("-j", "--jobs", type=int, default=1, metavar="N", help=jobs)
    device(command)
    again = "run again although nothing changed"
    command.add_argument("--force", action="store_true", help=again)


def _add_sources(add: _Subcommands) -> None:
    command = add("tangle", commands.tangle, "make the package from the chapters")
    text = "write nothing; fail when extracted/ differs from the book"
    command.add_argument("--check", action="store_true", help=text)
    text = "overwrite modules that were edited by hand"
    command.add_argument("--force", action="store_true", help=text)
    machine(command)
    text = "find drift, bad names, broken links; runs no chapter"
    machine(add("check", commands.check, text))
    text = "bring an edit made in extracted/ back to its chapter"
    command = add("adopt", commands.adopt, text)
    text = "such as extracted/foundations/attention.py"
    command.add_argument("modules", nargs="+", metavar="MODULE", help=text)
    text = "write the package as it stands after a chapter"
    command = add("snapshot", commands.snapshot, text)
    command.add_argument("chapter", metavar="CHAPTER")
    command.add_argument("folder", metavar="FOLDER", help="a new or empty folder")
    machine(command)


def _add_execution(add: _Subcommands) -> None:
    text = "run chapters whose code or inputs changed"
    command = add.chapters("execute", commands.execute, text)
    running(command)
    text = "then compare the outputs with the references"
    command.add_argument("--validate", action="store_true", help=text)
    machine(command)
    text = "compare executed outputs with the references"
    command = add.chapters("validate", commands.validate, text)
    device(command)
    machine(command)
    text = "run chapters and make their outputs the references"
    running(add.chapters("accept", commands.accept, text))
    command = add("why", commands.why, "say why a chapter would run again")
    command.add_argument("chapter", metavar="CHAPTER")
    device(command)
    machine(command)
    text = "delete what was built, except the cache of results"
    command = add("clean", commands.clean, text)
    command.add_argument("--all", action="store_true", help="the cache too")


def _add_reader(add: _Subcommands) -> None:
    text = "serve the site; a saved chapter reloads its page"
    command = add("serve", commands.serve, text)
    command.add_argument("--port", type=int, default=8000, help="default: 8000")
    device(command)
    text = "work on the exercises, graded on your machine"
    exercise.configure(add("exercise", commands.exercise, text))
