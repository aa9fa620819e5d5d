"""What the tests of the reasoning chapters share."""

import pytest

from extracted.foundations.tokenizer import Tokenizer
from extracted.reasoning.problems import train_problem_tokenizer


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """The problems' own."""
    place = tmp_path_factory.mktemp("tokenizer")
    train_problem_tokenizer(place)
    return Tokenizer.load(place)
