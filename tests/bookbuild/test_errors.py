"""Problems: their text, their order, and the hints."""

from bookbuild.errors import BookError, ConfigError, Problem, did_you_mean


def test_a_problem_names_file_line_column_and_remedy() -> None:
    assert str(Problem("a.md", 0, "bad")) == "a.md: error: bad"
    assert str(Problem("a.md", 3, "bad")) == "a.md:3: error: bad"
    assert str(Problem("a.md", 3, "bad", column=7)) == "a.md:3:7: error: bad"
    assert str(Problem("a.md", 3, "bad", "mend it")) == (
        "a.md:3: error: bad\nhint: mend it"
    )


def test_an_error_holds_each_problem_once_in_order() -> None:
    late, early = Problem("a.md", 10, "late"), Problem("a.md", 9, "early")
    error = BookError(late, early, late)
    assert error.problems == (early, late)
    assert str(error) == "a.md:9: error: early\na.md:10: error: late"


def test_exit_statuses_tell_a_failed_check_from_a_wrong_command() -> None:
    assert BookError().exit_code == 1
    assert ConfigError().exit_code == 2
    assert issubclass(ConfigError, BookError)


def test_did_you_mean_names_the_closest_word_or_what_else_to_do() -> None:
    assert did_you_mean("exprot", ["export", "margin"]) == "did you mean 'export'?"
    assert did_you_mean("zzz", ["export", "margin"]) == ""
    assert did_you_mean("zzz", ["export"], "known: export") == "known: export"
