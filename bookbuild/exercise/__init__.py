"""Exercises that grade the reader's own code: `bookbuild exercise`."""

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bookbuild.book import Book
    from bookbuild.errors import Problem
    from bookbuild.exercise.parse import Exercise

COMMAND = "bookbuild exercise"
ACTIONS = ("list", "start", "check", "watch", "hint", "solution")
EPILOG = """\
actions:
  list [CHAPTER]     the exercises, and how far you are
  start [LABEL]      write exercises/LABEL.py with the task and the code to begin with
  check [LABEL]      grade your file; without a label, all that you started
  watch [LABEL]      grade a file whenever you save it, until Ctrl-C
  hint LABEL         show one more hint
  solution LABEL     show the solution, once you passed (or with --show)"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `bookbuild exercise`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("action", choices=ACTIONS, metavar="ACTION", help="see below")
    parser.add_argument("label", nargs="?", metavar="LABEL", help="such as ex-name")
    parser.add_argument(
        "--force",
        action="store_true",
        help="start over; the edited file is kept as .bak",
    )
    parser.add_argument(
        "--show", action="store_true", help="show a solution before you passed"
    )


def main(book: "Book", args: argparse.Namespace) -> int:
    """Do `args.action` with `args.label`; the exit status."""
    from bookbuild.exercise.workbook import Workbook

    return Workbook(book).run(args.action, args.label, args.force, args.show)


def exercises(book: "Book") -> list["Exercise"]:
    """All exercises in reading order. Raises `BookError` with what is wrong."""
    from bookbuild.exercise.parse import exercises

    return exercises(book)


def self_check(book: "Book", names: Iterable[str] = ()) -> list["Problem"]:
    """Solutions that fail and starters that pass their grade cell, or do not run."""
    from bookbuild.exercise.grading import self_check

    return self_check(book, names)
