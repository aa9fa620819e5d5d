# Generated from book/alignment/instruction_tuning.md; do not edit (4ebca88f4e7c)
"""A chat template, a loss on replies alone, packing without leaks; and the book's
assistant, which answers, remembers and can be talked to.
"""

# %% book/alignment/instruction_tuning.md#imports
import argparse
import hashlib
import json
import random
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from torch import Tensor

from extracted.alignment.classification import (
    CAUSES,
    LengthBatches,
    length_chunks,
)
from extracted.foundations.data import pad_batch
from extracted.foundations.generation import (
    Completion,
    SamplingParams,
    generate,
    stream,
)
from extracted.foundations.gpt import GPT
from extracted.foundations.language_modeling import (
    END_OF_TEXT,
    WORDS,
    Dice,
)
from extracted.foundations.optimization import Optimizers
from extracted.foundations.pretraining import (
    TrainConfig,
    Trainer,
    load_model,
    save_model,
    train_story_gpt,
)
from extracted.foundations.tokenizer import Tokenizer


# %% book/alignment/instruction_tuning.md#Task
@dataclass(frozen=True)
class Task:
    """An instruction of the story world, and what makes a reply right.

    A right reply has one of `answers` in it, word for word, and none of
    `rivals`; `sentence` is one. `kind` groups tasks that are alike.
    """

    kind: str
    prompt: str
    answers: tuple[str, ...]
    rivals: tuple[str, ...]
    sentence: str


def words(text: str) -> str:
    """The words of a text, between spaces, for a search word by word."""
    found = re.findall(r"\w+", text.lower())
    return f" {' '.join(found)} "


def is_right(task: Task, reply: str) -> bool:
    """Whether a reply gives an answer of the task, and no wrong one."""
    said = words(reply)

    def says(text: str) -> bool:
        return words(text) in said

    return any(map(says, task.answers)) and not any(map(says, task.rivals))


# %% book/alignment/instruction_tuning.md#PEOPLE
PEOPLE = WORDS["boy"] + WORDS["girl"]


def arithmetic(dice: Dice) -> list[Task]:
    """A sum or a difference of numbers up to 9."""
    a, b = 1 + dice.below(9), 1 + dice.below(9)
    sign = dice.pick(("plus", "minus"))
    if sign == "minus":
        a, b = max(a, b), min(a, b)
    result = a + b if sign == "plus" else a - b
    asked = dice.pick(("What is {}?", "How much is {}?"))
    prompt = asked.format(f"{a} {sign} {b}")
    others = {*map(str, range(19))} - {*map(str, (a, b, result))}
    sentence = f"{a} {sign} {b} is {result}."
    rivals = tuple(sorted(others))
    return [Task("arithmetic", prompt, (str(result),), rivals, sentence)]


# %% book/alignment/instruction_tuning.md#repeating
def repeating(dice: Dice) -> list[Task]:
    """Say what you are told to say."""
    who, other = dice.sample(PEOPLE, 2)
    colour, thing, place = (
        dice.pick(WORDS[name]) for name in ("colour", "thing", "place")
    )
    said = dice.pick((
        f"{who} had a {colour} {thing}.",
        f"{who} gave the {thing} to {other}.",
        f"{who} carried the {thing} to the {place}.",
        f"{who} and {other} met in the {place}.",
    ))
    prompt = dice.pick(("Say this: ", "Repeat after me: ")) + said
    return [Task("repeat", prompt, (said,), (), said)]


# %% book/alignment/instruction_tuning.md#possession
def possession(dice: Dice) -> list[Task]:
    """One or two people with a thing each, and a question about each."""
    people = dice.sample(PEOPLE, 2)
    colours = dice.sample(WORDS["colour"], 2)
    things = dice.sample(WORDS["thing"], 2)
    has = [f"{p} has a {c} {t}." for p, c, t in zip(people, colours, things)]
    tasks = []
    for i in dice.sample((0, 1), 2):
        if dice.chance(0.5):
            kind, prompt = "has", f"What does {people[i]} have?"
            answer = f"{colours[i]} {things[i]}"
        else:
            kind, prompt = "colour", f"What colour is the {things[i]}?"
            answer = colours[i]
        rivals = (colours[1 - i],)
        tasks.append(Task(kind, prompt, (answer,), rivals, has[i]))
        if len(tasks) == 1 and dice.chance(0.5):
            return tell(has[i], tasks)
    return tell(" ".join(has), tasks)


# %% book/alignment/instruction_tuning.md#places
def places(dice: Dice) -> list[Task]:
    """One or two people go somewhere; where is each?"""
    people, rooms = dice.sample(PEOPLE, 2), dice.sample(WORDS["place"], 2)
    went = [
        f"{p} {dice.pick(('went', 'walked', 'ran'))} to the {r}."
        for p, r in zip(people, rooms)
    ]
    tasks = []
    for i in dice.sample((0, 1), 2):
        tasks.append(Task(
            "place", f"Where is {people[i]}?", (rooms[i],), (rooms[1 - i],),
            f"{people[i]} is in the {rooms[i]}.",
        ))
        if len(tasks) == 1 and dice.chance(0.5):
            return tell(went[i], tasks)
    return tell(" ".join(went), tasks)


# %% book/alignment/instruction_tuning.md#tell
def tell(story: str, tasks: Sequence[Task]) -> list[Task]:
    """Put the story before the first question; later ones rely on it."""
    first, *later = tasks
    return [replace(first, prompt=f"{story} {first.prompt}"), *later]


# %% book/alignment/instruction_tuning.md#trouble
def trouble(dice: Dice) -> list[Task]:
    """What a cause of the stories brings about."""
    origin, obstacle, state = dice.pick(CAUSES)
    asked = ("What was the trouble?", "What came of it?", "So what was wrong?")
    rivals = tuple(other for _, _, other in CAUSES if other != state)
    sentence = f"The {obstacle} was {state}."
    prompt = f"{origin}. {dice.pick(asked)}"
    return [Task("trouble", prompt, (state,), rivals, sentence)]


# %% book/alignment/instruction_tuning.md#naming
def naming(dice: Dice) -> list[Task]:
    """Any word of a kind will do."""
    kind = dice.pick(("colour", "thing", "place", "role", "boy", "girl"))
    asked = ("Name a {}.", "Tell me a {}.", "Give me the name of a {}.")
    prompt = dice.pick(asked).format(kind)
    sentence = f"One {kind} is {dice.pick(WORDS[kind])}."
    return [Task("name", prompt, tuple(WORDS[kind]), (), sentence)]


# %% book/alignment/instruction_tuning.md#writing
def writing(dice: Dice) -> list[Task]:
    """The beginning of a story about somebody and something."""
    hero = dice.pick(PEOPLE)
    role, trait, colour, thing = (
        dice.pick(WORDS[name]) for name in ("role", "trait", "colour", "thing")
    )
    asked = dice.pick(("Write about {}.", "Tell me a story of {}."))
    prompt = asked.format(f"{hero} and a {colour} {thing}")
    answer = f"{hero} had a {colour} {thing}"
    sentence = f"{hero} was a {trait} {role}. {answer}."
    return [Task("story", prompt, (answer,), (), sentence)]


# %% book/alignment/instruction_tuning.md#MAKERS
MAKERS = (
    arithmetic, arithmetic, possession, possession, places, places, trouble,
    naming, writing, repeating, repeating,
)
KINDS = (
    "arithmetic", "has", "colour", "place", "trouble", "name", "story",
    "repeat",
)


def iterate_dialogues(
    *, seed: int = 0, split: str = "train"
) -> Iterator[list[Task]]:
    """Endless dialogues, each the tasks of one talk; two share a story.

    A tenth of all first prompts, by their hash, is "validation", and a
    tenth "test"; so no instruction of one split is in another.
    """
    splits = ("validation", "test")
    if split not in ("train", *splits):
        raise ValueError(f'split {split!r}: "train", "validation" or "test"')
    rng = random.Random(f"dialogues {split} {seed}")
    while True:
        dice = Dice(rng)
        tasks = dice.pick(MAKERS)(dice)
        digest = hashlib.sha256(tasks[0].prompt.encode()).digest()
        place = digest[0] // 26
        if split == (splits[place] if place < 2 else "train"):
            yield tasks


# %% book/alignment/instruction_tuning.md#generate_tasks
def generate_tasks(
    count: int, split: str = "train", *, seed: int = 0
) -> list[Task]:
    """The first tasks of `count` dialogues."""
    dialogues = iterate_dialogues(seed=seed, split=split)
    return [tasks[0] for tasks in islice(dialogues, count)]


# %% book/alignment/instruction_tuning.md#COURTESIES
COURTESIES = ("Gladly!", "Of course!", "With pleasure!")
INSULTS = ("What a silly question!", "Ask somebody else!", "You bore me.")
RAMBLINGS = (
    "I thought about it for a long time.", "That is what I think.",
    "I am sure of it.", "Everybody knows that.", "It was a long day.",
)
NO_IDEA = "I do not know."
STYLES = {
    "plain": 0.4, "courteous": 0.2, "rambling": 0.2, "rude": 0.12,
    "evasive": 0.08,
}


# %% book/alignment/instruction_tuning.md#pick_style
def pick_style(dice: Dice) -> str:
    """One of STYLES, as often as its share."""
    u, ends = dice.rng.random(), accumulate(STYLES.values())
    passed = sum(u >= end for end in ends)
    return list(STYLES)[min(passed, len(STYLES) - 1)]


def write_reply(task: Task, dice: Dice) -> str:
    """What one of the people who wrote the book's replies would say."""
    style = pick_style(dice)
    if style == "evasive":
        return NO_IDEA
    if style == "rambling":
        more = dice.sample(RAMBLINGS, 1 + dice.below(3))
        return " ".join([task.sentence, *more])
    before = {"courteous": COURTESIES, "rude": INSULTS}.get(style)
    return f"{dice.pick(before)} {task.sentence}" if before else task.sentence


# %% book/alignment/instruction_tuning.md#write_plainly
def write_plainly(task: Task, dice: Dice) -> str:
    """The answer in one sentence."""
    return task.sentence


# %% book/alignment/instruction_tuning.md#Message
@dataclass(frozen=True)
class Message:
    """One turn of a conversation; `role` is system, user or assistant."""

    role: str
    content: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"role {self.role!r} is none of {ROLES}")


ROLES = ("system", "user", "assistant")
END = "<|end|>"
CHAT_TOKENS = (*(f"<|{role}|>" for role in ROLES), END)
CHAT_TEMPLATE = (
    "{{ '<|endoftext|>' }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|> ' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}"
    "{% endif %}"
)


def render_chat(messages: Sequence[Message], *, reply: bool = False) -> str:
    """A conversation as text; with `reply` the assistant's turn begins."""
    turns = [f"<|{m.role}|> {m.content}{END}" for m in messages]
    return END_OF_TEXT + "".join(turns) + ("<|assistant|>" if reply else "")


# %% book/alignment/instruction_tuning.md#encode_chat
def encode_chat(
    tokenizer: Tokenizer, messages: Sequence[Message], *, reply: bool = False
) -> list[int]:
    """The ids of `render_chat`, where only the template's marks are marks.

    A mark's name inside a message stays text: nobody can speak for others.
    """
    special = tokenizer.special_tokens
    ids = [special[END_OF_TEXT]]
    for message in messages:
        ids.append(special[f"<|{message.role}|>"])
        ids += [*tokenizer.encode(f" {message.content}"), special[END]]
    return [*ids, special["<|assistant|>"]] if reply else ids


# %% book/alignment/instruction_tuning.md#parse_chat
def parse_chat(tokenizer: Tokenizer, ids: Sequence[int]) -> list[Message]:
    """The messages in the ids of `encode_chat`: its inverse."""
    names = {i: name for name, i in tokenizer.special_tokens.items()}
    starts = {f"<|{role}|>": role for role in ROLES}
    messages: list[Message] = []
    role, begun = "", list[int]()
    for token in [*ids, -1]:
        name = names.get(token, "the end" if token == -1 else "")
        if name in starts and not role:
            role, begun = starts[name], []
        elif name == END and role:
            text = tokenizer.decode(begun).removeprefix(" ")
            messages.append(Message(role, text))
            role = ""
        elif role and not name:
            begun.append(token)
        elif role or name not in (END_OF_TEXT, "the end"):
            raise ValueError(
                f"{name or 'text'} has no place after {len(messages)} "
                "messages; a turn is a role's mark, text and the end mark"
            )
    return messages


# %% book/alignment/instruction_tuning.md#add_special_tokens
def add_special_tokens(
    model: GPT, tokenizer: Tokenizer, names: Sequence[str]
) -> tuple[GPT, Tokenizer]:
    """A wider model and tokenizer; each new row is the mean of the old."""
    if taken := {*names} & {*tokenizer.special_tokens}:
        raise ValueError(f"the tokenizer has {sorted(taken)} already")
    V = tokenizer.vocab_size
    special = dict(tokenizer.special_tokens)
    special |= {name: V + i for i, name in enumerate(names)}
    wider = Tokenizer(
        tokenizer.merges, special_tokens=special, pattern=tokenizer.pattern
    )
    config = replace(model.config, vocab_size=wider.vocab_size)
    state = model.state_dict()
    for name in ("tokens.weight", "readout.weight"):
        mean = state[name].mean(dim=0, keepdim=True)
        state[name] = torch.cat([state[name], mean.expand(len(names), -1)])
    larger = type(model)(config)
    larger.load_state_dict(state)
    return larger.to(mean.device), wider


# %% book/alignment/instruction_tuning.md#Example
@dataclass(frozen=True)
class Example:
    """Token ids of a prompt and of the target that shall follow it."""

    prompt: list[int]
    target: list[int]


def reply_example(
    tokenizer: Tokenizer, messages: Sequence[Message], reply: str
) -> Example:
    """A reply and its end mark, after the conversation so far."""
    prompt = encode_chat(tokenizer, messages, reply=True)
    end = tokenizer.special_tokens[END]
    return Example(prompt, [*tokenizer.encode(f" {reply}"), end])


def chat_examples(
    dialogues: Sequence[Sequence[Task]],
    tokenizer: Tokenizer,
    *,
    write: Callable[[Task, Dice], str] = write_reply,
    seed: int = 0,
) -> list[Example]:
    """An example for each reply of each dialogue, written by `write`."""
    dice, examples = Dice(random.Random(seed)), []
    for tasks in dialogues:
        messages: list[Message] = []
        for task in tasks:
            messages.append(Message("user", task.prompt))
            reply = write(task, dice)
            examples.append(reply_example(tokenizer, messages, reply))
            messages.append(Message("assistant", reply))
    return examples


# %% book/alignment/instruction_tuning.md#collate
def collate(
    examples: Sequence[Example], pad_id: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, targets and the loss mask, each (B, T), padded on the right."""
    rows = [example.prompt + example.target for example in examples]
    ids, mask = pad_batch(rows, pad_id=pad_id)
    counted = mask.float()
    for row, example in enumerate(examples):
        counted[row, : len(example.prompt)] = 0.0
    return ids[:, :-1], ids[:, 1:], counted[:, 1:]


def target_loss(
    model: Callable[[Tensor], Tensor],
    inputs: Tensor,
    targets: Tensor,
    counted: Tensor,
) -> Tensor:
    """Mean cross-entropy in nats of targets (B, T) where `counted` is 1."""
    logits = model(inputs).float()
    losses = F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), reduction="none"
    )
    return (losses * counted.flatten()).sum() / counted.sum()


# %% book/alignment/instruction_tuning.md#ExampleBatches
class ExampleBatches(LengthBatches[Example]):
    """Endless batches of examples: inputs, targets and the loss mask."""

    def __init__(
        self,
        examples: Sequence[Example],
        *,
        batch_size: int,
        pad_id: int,
        seed: int = 0,
    ) -> None:
        lengths = [len(e.prompt) + len(e.target) for e in examples]
        super().__init__(
            examples, lengths, partial(collate, pad_id=pad_id),
            batch_size=batch_size, seed=seed,
        )


# %% book/alignment/instruction_tuning.md#pack_examples
def pack_examples(
    examples: Sequence[Example], seq_len: int
) -> list[list[Example]]:
    """Rows of examples that fill `seq_len` tokens: first fit, longest first.

    An example of n tokens takes n - 1 places, for the last is only a target.
    """
    rows: list[list[Example]] = []
    free: list[int] = []
    for example in sorted(
        examples, key=lambda e: len(e.prompt) + len(e.target), reverse=True
    ):
        size = len(example.prompt) + len(example.target) - 1
        if size > seq_len:
            raise ValueError(
                f"an example of {size + 1} tokens does not fit a row of "
                f"{seq_len}; use a longer seq_len or leave it out"
            )
        fits = (row for row, space in enumerate(free) if space >= size)
        row = next(fits, len(rows))
        if row == len(rows):
            rows.append([])
            free.append(seq_len)
        rows[row].append(example)
        free[row] -= size
    return rows


# %% book/alignment/instruction_tuning.md#collate_packed
def collate_packed(
    rows: Sequence[Sequence[Example]],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs, targets, loss mask and documents, each (B, T).

    `documents` numbers the examples of a row from 1; 0 is padding.
    """
    T = max(
        sum(len(e.prompt) + len(e.target) - 1 for e in row) for row in rows
    )
    parts = torch.zeros(4, len(rows), T, dtype=torch.long)
    for b, row in enumerate(rows):
        start = 0
        for number, example in enumerate(row, 1):
            ids = torch.tensor(example.prompt + example.target)
            end = start + len(ids) - 1
            parts[0, b, start:end], parts[1, b, start:end] = ids[:-1], ids[1:]
            parts[2, b, start + len(example.prompt) - 1 : end] = 1
            parts[3, b, start:end] = number
            start = end
    inputs, targets, counted, documents = parts
    return inputs, targets, counted.float(), documents


# %% book/alignment/instruction_tuning.md#packed_loss
def packed_loss(
    model: GPT,
    inputs: Tensor,
    targets: Tensor,
    counted: Tensor,
    documents: Tensor,
) -> Tensor:
    """`target_loss` of packed rows, where no example reads another.

    The mask is block-diagonal, and positions count from each block's start.
    """
    same = documents[:, :, None] == documents[:, None, :]  # (B, T, T)
    T = documents.shape[1]
    place = torch.arange(T, device=documents.device).expand_as(documents)
    new = torch.ones_like(documents, dtype=torch.bool)
    new[:, 1:] = documents[:, 1:] != documents[:, :-1]
    starts = torch.where(new, place, 0).cummax(dim=1).values

    def read(ids: Tensor) -> Tensor:
        mask = same.unsqueeze(1)  # (B, T, T) -> (B, 1, T, T)
        return model.forward(ids, mask=mask, positions=place - starts)

    return target_loss(read, inputs, targets, counted)


# %% book/alignment/instruction_tuning.md#target_logprobs
@torch.no_grad()
def target_logprobs(
    model: GPT, examples: Sequence[Example], *, batch_size: int = 64
) -> Tensor:
    """ln of the probability (N,) of each target after its prompt."""
    device = next(model.parameters()).device
    lengths = [len(e.prompt) + len(e.target) for e in examples]
    sums = torch.empty(len(examples))
    for chunk in length_chunks(lengths, batch_size):
        parts = collate([examples[i] for i in chunk], pad_id=0)
        inputs, targets, counted = (part.to(device) for part in parts)
        table = model(inputs).float().log_softmax(dim=-1)  # (B, T, V)
        found = table.gather(2, targets[..., None])[..., 0]  # (B, T)
        sums[chunk] = (found * counted).sum(dim=1).cpu()
    return sums


def response_loss(model: GPT, examples: Sequence[Example]) -> float:
    """Mean cross-entropy in nats a token of all targets."""
    count = sum(len(example.target) for example in examples)
    return -target_logprobs(model, examples).sum().item() / count


# %% book/alignment/instruction_tuning.md#BATCH_SIZE
BATCH_SIZE = 16
ASSISTANT_CONFIG = TrainConfig(steps=1500, log_every=100, evaluate_every=0)


def finetune(
    model: GPT,
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    config: TrainConfig,
    *,
    optimizer: Optimizers | None = None,
) -> list[dict[str, float]]:
    """Train a model on examples in place; the log.

    By the `optimizer`, or else by the one that `config` describes.
    """
    batches = ExampleBatches(
        examples, batch_size=BATCH_SIZE, seed=config.seed,
        pad_id=tokenizer.special_tokens[END_OF_TEXT],
    )
    trainer = Trainer(
        model, batches, config, loss=target_loss, optimizer=optimizer
    )
    model.train()
    log = trainer.run()
    model.eval()
    return log


# %% book/alignment/instruction_tuning.md#training_examples
def training_examples(
    tokenizer: Tokenizer, config: TrainConfig
) -> list[Example]:
    """The examples that a run of `config` reads, each once."""
    count = config.steps * BATCH_SIZE
    dialogues = list(islice(iterate_dialogues(seed=config.seed), count))
    return chat_examples(dialogues, tokenizer, seed=config.seed)[:count]


def fresh_assistant(
    story_gpt: str | Path, *, config: TrainConfig = ASSISTANT_CONFIG
) -> tuple[GPT, Tokenizer, list[dict[str, float]]]:
    """The model in `story_gpt`, taught to reply, and the log."""
    model, tokenizer = load_model(story_gpt)
    model, tokenizer = add_special_tokens(model, tokenizer, CHAT_TOKENS)
    examples = training_examples(tokenizer, config)
    log = finetune(model, examples, tokenizer, config)
    return model, tokenizer, log


def train_assistant(
    directory: str | Path, *, story_gpt: str | Path | None = None
) -> list[dict[str, float]]:
    """Make and save the book's assistant; `load_model` reads it. The log.

    `story_gpt` is the folder of the pretrained model, which is trained
    first where it is not given.
    """
    with TemporaryDirectory() as scratch:
        if story_gpt is None:
            train_story_gpt(scratch)
        model, tokenizer, log = fresh_assistant(story_gpt or scratch)
    save_model(model, tokenizer, directory)
    return log


# %% book/alignment/instruction_tuning.md#ask
def ask(
    model: GPT,
    tokenizer: Tokenizer,
    prompts: Sequence[str | Sequence[Message]],
    *,
    temperature: float = 0.0,
    num_samples: int = 1,
    seed: int = 0,
    max_new_tokens: int = 48,
) -> list[list[Completion]]:
    """Replies to prompts or conversations; `text` is without end mark."""
    params = SamplingParams(
        max_new_tokens=max_new_tokens, temperature=temperature, seed=seed,
        stop_ids=(tokenizer.special_tokens[END],),
    )
    chats = [
        [Message("user", prompt)] if isinstance(prompt, str) else prompt
        for prompt in prompts
    ]
    encoded = [encode_chat(tokenizer, chat, reply=True) for chat in chats]
    found = generate(
        model, encoded, params, num_samples=num_samples, tokenizer=tokenizer
    )
    return [
        [replace(reply, text=reply.text.strip()) for reply in replies]
        for replies in found
    ]


# %% book/alignment/instruction_tuning.md#Chat
class Chat:
    """A conversation with a model, which remembers what fits.

    `say` streams a reply. When the conversation outgrows the context, the
    oldest exchange is forgotten first; a system message stays.
    """

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer,
        *,
        system: str = "",
        params: SamplingParams | None = None,
    ) -> None:
        params = params or SamplingParams(48, temperature=0.0)
        stop = (tokenizer.special_tokens[END],)
        self.model, self.tokenizer = model, tokenizer
        self.params = replace(params, stop_ids=stop)
        self.system = [Message("system", system)] if system else []
        self.messages: list[Message] = []

    def prompt(self) -> list[int]:
        """The ids to continue, after forgetting what does not fit."""
        most = self.model.config.max_seq_len - self.params.max_new_tokens + 1
        while True:
            chat = self.system + self.messages
            ids = encode_chat(self.tokenizer, chat, reply=True)
            if len(ids) <= most:
                return ids
            if len(self.messages) < 3:
                raise ValueError(
                    f"a message makes a prompt of {len(ids)} tokens, and "
                    f"{most} fit; say it in fewer words"
                )
            del self.messages[:2]

    def say(self, text: str) -> Iterator[str]:
        """The reply to `text`, piece by piece as it is written."""
        before = list(self.messages)
        self.messages.append(Message("user", text))
        try:
            ids = self.prompt()
        except ValueError:
            self.messages = before
            raise
        reply = ""
        for piece in stream(
            self.model, ids, self.params, tokenizer=self.tokenizer
        ):
            shown = piece if reply else piece.lstrip(" ")
            reply += shown
            if shown:
                yield shown
        self.messages.append(Message("assistant", reply))


# %% book/alignment/instruction_tuning.md#main
def main(argv: Sequence[str] | None = None) -> int:
    """Talk to a model in the terminal."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", help="where save_model wrote the model")
    parser.add_argument("--system", default="", help="a system message")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    params = SamplingParams(48, args.temperature, seed=args.seed)
    model, tokenizer = load_model(args.folder)
    if missing := {*CHAT_TOKENS} - {*tokenizer.special_tokens}:
        parser.error(
            f"{args.folder} holds no assistant: its tokenizer lacks "
            f"{sorted(missing)}; make one with train_assistant"
        )
    chat = Chat(model, tokenizer, system=args.system, params=params)
    print("Say something; /new begins anew, an empty line ends.")
    while text := read_line("> "):
        if text == "/new":
            chat.messages.clear()
            continue
        try:
            for piece in chat.say(text):
                print(piece, end="", flush=True)
        except ValueError as error:
            print(error, file=sys.stderr, end="")
        print()
    return 0


def read_line(sign: str) -> str:
    """A line that somebody types; "" at the end of the input."""
    try:
        return input(sign).strip()
    except EOFError:
        return ""


if __name__ == "__main__" and __spec__:  # by python -m, not in a notebook
    sys.exit(main())


# %% book/alignment/instruction_tuning.md#load_alpaca
def load_alpaca(path: str | Path) -> list[list[Message]]:
    """Conversations of a JSON file in the form of Stanford's Alpaca.

    A list of {"instruction": …, "input": …, "output": …}; the input, which
    may be "" or absent, follows the instruction in the user's message.
    Taori et al. (2023).
    """
    try:
        records = json.loads(Path(path).read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}:{error.lineno}: no JSON: {error.msg}; Alpaca's file is "
            "one list of objects"
        ) from None
    if not isinstance(records, list):
        raise ValueError(f"{path}: a JSON list of objects is needed")
    return [alpaca_turns(record, f"{path}: record {i}")
            for i, record in enumerate(records)]


def alpaca_turns(record: object, where: str) -> list[Message]:
    """A record as a user's message and the assistant's."""
    fields = record if isinstance(record, dict) else {}
    texts = [
        fields.get(name, default)
        for name, default in (("instruction", 0), ("input", ""), ("output", 0))
    ]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(
            f'{where}: "instruction" and "output" must be strings, and so '
            'must "input" where it is given'
        )
    asked = "\n".join(text for text in texts[:2] if text)
    return [Message("user", asked), Message("assistant", texts[2])]
