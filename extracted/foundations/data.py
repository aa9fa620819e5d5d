# Generated from book/foundations/data.md; do not edit (ddb84ae7ed3e)
"""Documents to training batches, from a file larger than memory, in an order that is
random, complete and the same after a crash.
"""

# %% book/foundations/data.md#Item
import hashlib
import math
import mmap
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from extracted.foundations.language_modeling import (
    END_OF_TEXT,
    generate_stories,
)
from extracted.foundations.tokenizer import Tokenizer

Item = TypeVar("Item")


# %% book/foundations/data.md#write_token_file
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
    read one at a time. `path` appears when it is complete, or not at all.
    """
    if isinstance(documents, str) or separator not in tokenizer.special_tokens:
        raise ValueError(
            "documents must be strings, [text] for a single one, and the "
            f"separator {separator!r} a special token of the tokenizer, which "
            f"has {list(tokenizer.special_tokens)}"
        )
    end = tokenizer.special_tokens[separator]
    ids = ([*tokenizer.encode(document), end] for document in documents)
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4")
    part = Path(f"{path}.part")
    try:
        with part.open("wb") as file:
            count = _write_rows(file, ids, dtype)
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return count


def _write_rows(
    file: BinaryIO, rows: Iterable[list[int]], dtype: np.dtype[Any]
) -> int:
    """Write one `.npy` array of all rows, end to end; return its length."""
    write_header = np.lib.format.write_array_header_1_0
    header = {"descr": dtype.str, "fortran_order": False}
    write_header(file, header | {"shape": (0,)})
    start, count = file.tell(), 0
    for row in rows:
        file.write(np.array(row, dtype).tobytes())
        count += len(row)
    if not count:
        raise ValueError("no documents: is the iterator used up?")
    file.seek(0)  # NumPy leaves room in the header for a longer length
    write_header(file, header | {"shape": (count,)})
    assert file.tell() == start
    file.flush()
    return count


# %% book/foundations/data.md#read_documents
def read_documents(
    path: str | Path, *, separator: str = END_OF_TEXT, chunk: int = 1 << 20
) -> Iterator[str]:
    """The documents of a UTF-8 text file with `separator` between them.

    Reads `chunk` characters at a time, so memory holds one document and a
    chunk. Line ends around a document are removed and empty ones left out.
    """
    with Path(path).open(encoding="utf-8", newline="") as file:
        rest, more = "", True
        while more:
            more = bool(text := file.read(chunk))
            *whole, rest = (rest + text).split(separator)
            for document in whole if more else [*whole, rest]:
                if document := document.strip("\r\n"):
                    yield document


# %% book/foundations/data.md#TokenFile
class TokenFile:
    """The ids in a file of `write_token_file`, mapped into memory.

    Opening costs the same for any size, and only what is read is loaded.
    `tokens[a:b]` is an int64 tensor of its own.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.ids = self._map()
        except ValueError as error:
            raise ValueError(
                f"{path} is no token file: {error}; use write_token_file"
            ) from None

    def _map(self) -> NDArray[np.unsignedinteger[Any]]:
        with self.path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise ValueError(f"version {version} of .npy is not (1, 0)")
            header = np.lib.format.read_array_header_1_0(file)
            (*length, count), _, dtype = header
            if length or dtype.kind != "u":
                raise ValueError(f"it holds {dtype} of shape {header[0]}")
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            if hasattr(mmap, "MADV_RANDOM"):  # else whole megabytes are read
                memory.madvise(mmap.MADV_RANDOM)
            return np.frombuffer(memory, dtype, count, offset=file.tell())

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int | slice) -> Tensor:
        return torch.from_numpy(np.array(self.ids[index], dtype=np.int64))

    def __reduce__(self) -> tuple[type["TokenFile"], tuple[Path]]:
        return TokenFile, (self.path,)  # a pickle that does not hold the ids


# %% book/foundations/data.md#document_mask
def document_mask(ids: Tensor, separator_id: int) -> Tensor:
    """Boolean (B, 1, T, T), `True` where two tokens share a document.

    ids (B, T) are packed windows. A separator belongs to the document that it
    ends. Narrows the causal mask of an attention layer; it is not causal.
    """
    ends = ids == separator_id
    document = ends.cumsum(dim=1) - ends.long()  # (B, T), counted from 0
    same = document[:, :, None] == document[:, None, :]
    return same.unsqueeze(1)  # (B, T, T) -> (B, 1, T, T)


# %% book/foundations/data.md#ROUNDS
ROUNDS = 8  # fewer leave permutations of five or six visibly uneven


def _random_words(seed: int, epoch: int, count: int) -> NDArray[np.uint64]:
    """Numbers of 64 bits that belong to `seed` and `epoch`."""
    if seed < 0:
        raise ValueError(f"seed {seed} is negative; use 0 or more")
    source = np.random.SeedSequence(seed, spawn_key=(epoch,))
    return np.asarray(source.generate_state(count, np.uint64), np.uint64)


def scramble(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The last step of splitmix64 (Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def permute(
    places: ArrayLike, size: int, *, seed: int = 0, epoch: int = 0
) -> NDArray[np.int64]:
    """What a random permutation of 0 … size - 1 has at `places`.

    The permutation belongs to `seed` and `epoch`, and nothing of it is
    stored. A Feistel network on a grid that holds all numbers, applied again
    to those that leave the range (Black and Rogaway 2002).
    """
    found = np.array(places, dtype=np.int64)
    if found.size and not 0 <= found.min() <= found.max() < size:
        raise ValueError(f"places must be in 0 … {size - 1}, not {found}")
    R = np.uint64(math.isqrt(max(size - 1, 0)) + 1)
    # With C odd, half of all permutations of the grid would be out of reach.
    C = np.uint64(2 * -(-size // (2 * int(R))))
    keys = _random_words(seed, epoch, 2 * ROUNDS).reshape(ROUNDS, 2)
    outside = np.ones(found.shape, dtype=bool)
    while outside.any():
        row, column = np.divmod(found[outside].astype(np.uint64), C)
        for f, g in keys:
            row = (row + scramble(column ^ f) % R) % R
            column = (column + scramble(row ^ g) % C) % C
        found[outside] = row * C + column
        outside = found >= size
    return found


# %% book/foundations/data.md#PackedBatches
class PackedBatches(Iterator[tuple[Tensor, Tensor]]):
    """Endless batches (inputs, targets), int64 (B, T), targets one ahead.

    The tokens, taken as a ring, are cut into `num_windows` windows of
    `seq_len`, each of which is read once an epoch. With `shuffle`, each epoch
    has its own order and starts to cut elsewhere. A batch depends on the
    arguments and on `windows_read` only, so a few numbers resume a run.
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
        if isinstance(tokens, Tensor) and tokens.dim() != 1:
            raise ValueError(f"tokens {tuple(tokens.shape)} are not one row")
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
            words = _random_words(self.seed, epoch, 2 * ROUNDS + 1)
            cut = int(words[-1]) % len(self.tokens)
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
            if state.get(name) != value:
                raise ValueError(
                    f"the state has {name} {state.get(name)}, these batches "
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


# %% book/foundations/data.md#in_validation
def in_validation(document: str, *, share: float = 0.1) -> bool:
    """Whether a document belongs to the held-out `share` of all documents."""
    digest = hashlib.blake2b(document.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


# %% book/foundations/data.md#pad_batch
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


# %% book/foundations/data.md#length_buckets
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
    pool is sorted by length and cut, and the batches are shuffled. One batch
    may be short.
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


# %% book/foundations/data.md#Prefetcher
class Prefetcher(Iterator[Item]):
    """Hands out the items of `source`, read ahead by a thread, in order.

    An error of the source is raised where its item would have come. The state
    is the source's after the item handed out last, not after the last read.
    """

    def __init__(self, source: Iterator[Item], depth: int = 2) -> None:
        if depth < 1:
            raise ValueError(f"depth {depth}: read at least 1 item ahead")
        self._source: Any = source
        self._depth = depth
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
        load = self._source.load_state_dict
        self._pool.submit(load, state).result()  # after the reads under way
        self._start()


def prefetch(source: Iterator[Item], depth: int = 2) -> Prefetcher[Item]:
    """Read up to `depth` items of `source` ahead, in a thread."""
    return Prefetcher(source, depth)


# %% book/foundations/data.md#prepare_story_tokens
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
