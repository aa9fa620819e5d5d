import hashlib
import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from extracted.foundations.language_modeling import (
    END_OF_TEXT,
    generate_stories,
)
from extracted.foundations.tokenizer import Tokenizer

Item = TypeVar("Item")


def write_token_file(
    path: str | Path,
    documents: Iterable[str],
    tokenizer: Tokenizer,
    *,
    separator: str = END_OF_TEXT,
) -> int:
    """Encode `documents` into the file `path`; return the number of tokens.

    A NumPy `.npy` file of 16-bit ids, 32-bit where the vocabulary needs them.
    The special token `separator` stands after each document. Documents are
    read one at a time, and `path` appears when it is complete.
    """
    if separator not in tokenizer.special_tokens:
        raise ValueError(
            f"{separator!r} is not among the tokenizer's special tokens "
            f"{list(tokenizer.special_tokens)}; pass one as separator"
        )
    end = tokenizer.special_tokens[separator]
    small = tokenizer.vocab_size <= 1 << 16
    dtype = np.dtype("<u2" if small else "<u4")
    header = {"descr": dtype.str, "fortran_order": False}
    path, count = Path(path), 0
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header | {"shape": (0,)})
        start = file.tell()
        for document in documents:
            ids = np.array([*tokenizer.encode(document), end], dtype)
            file.write(ids.tobytes())
            count += len(ids)
        file.seek(0)  # NumPy leaves room in the header for a longer length
        shape = {"shape": (count,)}
        np.lib.format.write_array_header_1_0(file, header | shape)
        assert file.tell() == start
        file.flush()
        os.fsync(file.fileno())
    if not count:
        part.unlink()
        raise ValueError(f"no documents for {path}: is the iterator used up?")
    os.replace(part, path)
    return count


class TokenFile:
    """The ids in a file of `write_token_file`, mapped into memory.

    Opening costs the same for any size, and only the parts that are read are
    loaded. `tokens[a:b]` is an int64 tensor of its own.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.ids = np.lib.format.open_memmap(self.path, mode="r")
        except ValueError as error:
            raise ValueError(
                f"{path} is no token file ({error}); make it with "
                "write_token_file"
            ) from error
        if self.ids.ndim != 1 or self.ids.dtype.kind != "u":
            raise ValueError(
                f"{path} holds {self.ids.dtype} of shape {self.ids.shape}, "
                "not a row of unsigned ids"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int | slice) -> Tensor:
        return torch.from_numpy(np.array(self.ids[index], dtype=np.int64))

    def __reduce__(self) -> tuple[type["TokenFile"], tuple[Path]]:
        return TokenFile, (self.path,)  # else a copy to a worker holds all ids


ROUNDS = 16  # fewer leave permutations of 5 or 6 visibly uneven


def _round_keys(seed: int, epoch: int) -> list[int]:
    """Keys of the rounds and one more number, all of 64 bits."""
    if seed < 0:
        raise ValueError(f"seed {seed} is negative; use 0 or more")
    source = np.random.SeedSequence(seed, spawn_key=(epoch,))
    return source.generate_state(ROUNDS + 1, np.uint64).tolist()


def _scramble(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of splitmix64 (Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB
    return x ^ (x >> 31)


def permute(
    places: Sequence[int] | NDArray[np.integer[Any]],
    size: int,
    *,
    seed: int = 0,
    epoch: int = 0,
) -> NDArray[np.int64]:
    """What a random permutation of 0 … size - 1 has at `places`.

    The permutation belongs to `seed` and `epoch` and is never stored: a
    Feistel network on a grid of about sqrt(size) rows, walking on where it
    leaves the range (Black and Rogaway 2002).
    """
    found = np.array(places, dtype=np.uint64)
    if size < 1 or (found >= size).any():
        raise ValueError(f"places {places} are not all in 0 … {size - 1}")
    rows = math.isqrt(size - 1) + 1
    columns = 2 * -(-size // (2 * rows))  # an odd grid allows half of all
    *keys, _ = _round_keys(seed, epoch)
    walking = np.ones(found.shape, dtype=bool)
    while walking.any():
        row, column = np.divmod(found[walking], columns)
        for a, b in zip(keys[::2], keys[1::2], strict=True):
            row = (row + _scramble(column ^ a) % rows) % rows
            column = (column + _scramble(row ^ b) % columns) % columns
        found[walking] = row * columns + column
        walking = found >= size
    return found.astype(np.int64)


class PackedBatches(Iterator[tuple[Tensor, Tensor]]):
    """Endless batches (inputs, targets), int64 (B, T), targets one ahead.

    The tokens, taken as a ring, are cut into windows of `seq_len`, each of
    which is read once an epoch. With `shuffle`, every epoch has its own order
    and starts to cut elsewhere. A batch depends on the arguments and on
    `windows_read` only, so a run resumes from a handful of numbers.
    """

    def __init__(
        self,
        tokens: TokenFile | Tensor,
        *,
        batch_size: int,
        seq_len: int,
        seed: int = 0,
        shuffle: bool = True,
    ) -> None:
        if min(batch_size, seq_len) < 1:
            raise ValueError(f"{batch_size=} and {seq_len=} must be positive")
        if len(tokens) <= seq_len:
            raise ValueError(
                f"{len(tokens)} tokens hold no window of {seq_len} and its "
                "next token; use a shorter seq_len"
            )
        self.tokens, self.batch_size = tokens, batch_size
        self.seq_len, self.seed, self.shuffle = seq_len, seed, shuffle
        self.num_windows = (len(tokens) - 1) // seq_len
        self.windows_read = 0

    def starts(self, first: int, count: int) -> NDArray[np.int64]:
        """Where windows first … first + count - 1 of the run begin."""
        epochs, places = np.divmod(
            np.arange(first, first + count), self.num_windows
        )
        if not self.shuffle:
            return places * self.seq_len
        for epoch in np.unique(epochs).tolist():
            now = epochs == epoch
            cut = _round_keys(self.seed, epoch)[-1] % len(self.tokens)
            order = permute(
                places[now], self.num_windows, seed=self.seed, epoch=epoch
            )
            places[now] = (cut + order * self.seq_len) % len(self.tokens)
        return places

    def read(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets (count, T) of those windows."""
        rows = []
        for start in self.starts(first, count).tolist():
            end = start + self.seq_len + 1
            row = self.tokens[start:end]
            if end > len(self.tokens):  # go on at the start of the ring
                row = torch.cat((row, self.tokens[: end - len(self.tokens)]))
            rows.append(row)
        windows = torch.stack(rows).long()  # (B, T + 1)
        return windows[:, :-1], windows[:, 1:]

    def __next__(self) -> tuple[Tensor, Tensor]:
        batch = self.read(self.windows_read, self.batch_size)
        self.windows_read += self.batch_size
        return batch

    def state_dict(self) -> dict[str, int | bool]:
        """Where the run stands, in plain numbers."""
        return {"windows_read": self.windows_read} | self._identity()

    def load_state_dict(self, state: Mapping[str, int | bool]) -> None:
        """Go on where `state` was taken; the batch size may differ."""
        for name, value in self._identity().items():
            if state[name] != value:
                raise ValueError(
                    f"the state has {name} {state[name]}, these batches "
                    f"{value}; the order would not be the one of that run"
                )
        self.windows_read = int(state["windows_read"])

    def _identity(self) -> dict[str, int | bool]:
        return {
            "num_tokens": len(self.tokens),
            "seq_len": self.seq_len,
            "seed": self.seed,
            "shuffle": self.shuffle,
        }


def pad_batch(
    sequences: Sequence[Sequence[int]], *, pad_id: int, side: str = "right"
) -> tuple[Tensor, Tensor]:
    """Ids (B, T), int64, and a mask (B, T), `True` where they are not padding.

    T is the longest length. Pad on the right to train, on the left to
    generate, so that every text ends at the last position.
    """
    if side not in ("left", "right"):
        raise ValueError(f'side {side!r}: use "left" or "right"')
    if not sequences:
        raise ValueError("no sequences: a batch needs at least one")
    B, T = len(sequences), max(map(len, sequences))
    ids = torch.full((B, T), pad_id)
    mask = torch.zeros(B, T, dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        n = len(sequence)
        place = slice(n) if side == "right" else slice(T - n, T)
        ids[row, place] = torch.tensor(sequence, dtype=torch.long)
        mask[row, place] = True
    return ids, mask


def length_buckets(
    lengths: Sequence[int],
    *,
    batch_size: int,
    pool_batches: int = 16,
    seed: int = 0,
    epoch: int = 0,
) -> list[list[int]]:
    """Batches of indices of similar length, every index once.

    The shuffled indices are cut into pools of `pool_batches` batches, each
    pool is sorted by length and cut, and the batches are shuffled. The last
    batch may be short.
    """
    if min(batch_size, pool_batches) < 1:
        raise ValueError(f"{batch_size=} and {pool_batches=} must be positive")
    if not lengths:
        return []
    n, pool = len(lengths), batch_size * pool_batches
    order = permute(np.arange(n), n, seed=seed, epoch=epoch).tolist()
    batches = []
    for start in range(0, n, pool):
        alike = sorted(order[start : start + pool], key=lengths.__getitem__)
        for i in range(0, len(alike), batch_size):
            batches.append(alike[i : i + batch_size])
    m = len(batches)
    again = permute(np.arange(m), m, seed=seed, epoch=epoch)
    return [batches[i] for i in again.tolist()]


class Prefetcher(Iterator[Item], Generic[Item]):
    """Hands out the items of `source`, read ahead by a thread, in order.

    An error of the source is raised where its item would have come. The state
    is the source's after the item handed out last, not after the last read.
    """

    def __init__(self, source: Iterator[Item], depth: int = 2) -> None:
        if depth < 1:
            raise ValueError(f"depth {depth}: read at least 1 item ahead")
        self._source, self._depth = source, depth
        self._pool = ThreadPoolExecutor(1, "prefetch")
        self._start()

    def _start(self) -> None:
        self._state = self._look()
        self._ahead: deque[Future[tuple[Item, Any]]] = deque(
            self._pool.submit(self._read) for _ in range(self._depth)
        )

    def _look(self) -> Any:
        state = getattr(self._source, "state_dict", None)
        return None if state is None else state()

    def _read(self) -> tuple[Item, Any]:
        return next(self._source), self._look()

    def __next__(self) -> Item:
        self._ahead.append(self._pool.submit(self._read))
        item, self._state = self._ahead.popleft().result()
        return item

    def state_dict(self) -> Any:
        """The state of the source after the last item handed out."""
        return self._state

    def load_state_dict(self, state: Any) -> None:
        """Drop what was read ahead and go on from `state`."""
        load = getattr(self._source, "load_state_dict")
        self._pool.submit(load, state).result()  # after the reads under way
        self._start()


def prefetch(source: Iterator[Item], depth: int = 2) -> Prefetcher[Item]:
    """Read up to `depth` items of `source` ahead, in a thread."""
    return Prefetcher(source, depth)


def in_validation(document: str, *, share: float = 0.1) -> bool:
    """Whether a document belongs to the held-out `share` of all documents."""
    digest = hashlib.blake2b(document.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def prepare_story_tokens(
    directory: str | Path, tokenizer: Tokenizer, *, num_stories: int = 12_000
) -> None:
    """Write train.npy and validation.npy, token files of the book's stories.

    The validation file has a story for every twenty that are trained on.
    """
    for split, count in (
        ("train", num_stories),
        ("validation", max(1, num_stories // 20)),
    ):
        stories = generate_stories(count, split=split)
        write_token_file(Path(directory, f"{split}.npy"), stories, tokenizer)
