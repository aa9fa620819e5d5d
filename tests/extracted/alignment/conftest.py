"""What the tests of the alignment chapters share."""

import pytest

from extracted.alignment.instruction_tuning import CHAT_TOKENS
from extracted.foundations.language_modeling import END_OF_TEXT, generate_stories
from extracted.foundations.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def chat_tokenizer() -> Tokenizer:
    """A small tokenizer of stories, with the marks of a chat."""
    special = [END_OF_TEXT, *CHAT_TOKENS]
    return Tokenizer.train(generate_stories(200), 512, special_tokens=special)
