"""Token files against NumPy, padding against torch, and the order against itself."""

import json
import math
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pad_sequence

from extracted.foundations.data import (
    PackedBatches,
    Prefetcher,
    TokenFile,
    document_mask,
    in_validation,
    length_buckets,
    pad_batch,
    permute,
    prefetch,
    prepare_story_tokens,
    read_documents,
    write_token_file,
)
from extracted.foundations.language_modeling import END_OF_TEXT, generate_stories
from extracted.foundations.tokenizer import Tokenizer

BYTES = Tokenizer([], special_tokens=[END_OF_TEXT])  # ids 0-255, and 256 ends
END = 256


# ---------------------------------------------------------------- token files


def test_a_token_file_is_what_numpy_reads(tmp_path):
    texts = ["Hello.", "", "naïve 🙂"]
    path = tmp_path / "t.npy"
    count = write_token_file(path, texts, BYTES)
    expected = [i for text in texts for i in [*BYTES.encode(text), END]]
    loaded = np.load(path)
    assert loaded.dtype == np.uint16 and loaded.tolist() == expected
    assert count == len(expected) == len(TokenFile(path))
    assert path.stat().st_size == 128 + 2 * count


@given(st.lists(st.text(), min_size=1))
@settings(max_examples=30)
def test_the_round_trip_gives_the_documents_back(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("round") / "t.npy"
    write_token_file(path, texts, BYTES)
    tokens = TokenFile(path)
    ends = (tokens[:] == END).nonzero().flatten().tolist()
    starts = [0, *(end + 1 for end in ends)]
    found = [BYTES.decode(tokens[a:b]) for a, b in zip(starts, ends)]
    assert found == texts


def test_numpys_own_files_are_read(tmp_path):
    for dtype in ("<u2", "<u4", ">u2", "u1"):
        np.save(tmp_path / "t.npy", np.arange(200).astype(dtype))
        assert TokenFile(tmp_path / "t.npy")[:].tolist() == list(range(200))


def test_slices_are_those_of_a_list(tmp_path):
    np.save(tmp_path / "t.npy", np.arange(50, dtype=np.uint16))
    tokens, numbers = TokenFile(tmp_path / "t.npy"), list(range(50))
    for part in (slice(3, 9), slice(-4, None), slice(40, 99), slice(9, 3)):
        assert tokens[part].tolist() == numbers[part]
    assert tokens[7].item() == 7 and tokens[-1].item() == 49
    assert tokens[3:9].dtype == torch.int64
    tokens[3:9].zero_()  # a copy: the file does not change
    assert tokens[3:9].tolist() == numbers[3:9]


def test_large_vocabularies_get_32_bits(tmp_path):
    big = Tokenizer([], special_tokens={END_OF_TEXT: 128_000})
    write_token_file(tmp_path / "t.npy", ["ab"], big)
    assert np.load(tmp_path / "t.npy").dtype == np.uint32
    assert TokenFile(tmp_path / "t.npy")[-1].item() == 128_000
    last = Tokenizer([], special_tokens={END_OF_TEXT: 65_535})
    write_token_file(tmp_path / "t.npy", ["ab"], last)
    assert np.load(tmp_path / "t.npy").dtype == np.uint16
    assert TokenFile(tmp_path / "t.npy")[-1].item() == 65_535


def test_a_document_cannot_forge_a_separator(tmp_path):
    write_token_file(tmp_path / "t.npy", [f"a{END_OF_TEXT}b"], BYTES)
    tokens = TokenFile(tmp_path / "t.npy")[:]
    assert (tokens == END).sum() == 1
    assert BYTES.decode(tokens[:-1]) == f"a{END_OF_TEXT}b"


def test_a_failure_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "t.npy"
    write_token_file(path, ["old"], BYTES)

    def broken():
        yield "new"
        raise OSError("the disk with the documents is gone")

    with pytest.raises(OSError, match="gone"):
        write_token_file(path, broken(), BYTES)
    with pytest.raises(ValueError, match="used up"):
        write_token_file(path, iter([]), BYTES)
    assert [file.name for file in tmp_path.iterdir()] == ["t.npy"]
    assert BYTES.decode(TokenFile(path)[:-1]) == "old"


def test_documents_are_read_one_at_a_time(tmp_path):
    """Each is encoded before the next is asked for."""
    log = []

    class Watched(Tokenizer):
        def encode(self, text, **options):
            log.append(f"encode {text}")
            return super().encode(text, **options)

    def documents():
        for name in "ab":
            log.append(f"read {name}")
            yield name

    watched = Watched([], special_tokens=[END_OF_TEXT])
    write_token_file(tmp_path / "t.npy", documents(), watched)
    assert log == ["read a", "encode a", "read b", "encode b"]


@pytest.mark.parametrize(
    ("documents", "separator"), [("one string", END_OF_TEXT), (["a"], "<|end|>")]
)
def test_wrong_arguments_are_refused(tmp_path, documents, separator):
    with pytest.raises(ValueError, match="special token"):
        write_token_file(tmp_path / "t", documents, BYTES, separator=separator)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((2, 3), np.uint16), r"uint16 of shape \(2, 3\)"),
        (np.zeros(3, np.int64), "int64"),
        (np.zeros(3, np.float32), "float32"),
        (np.uint16(3), "not enough values"),
        (b"no header at all", "magic string"),
        (b"", "magic string"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "t.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(ValueError, match=f"is no token file: .*{message}"):
        TokenFile(path)


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "t.npy"
    write_token_file(path, ["a longer document"], BYTES)
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(ValueError, match="no token file"):
        TokenFile(path)


def test_a_pickle_holds_the_path_and_not_the_tokens(tmp_path):
    write_token_file(tmp_path / "t.npy", ["x" * 100_000], BYTES)
    tokens = TokenFile(tmp_path / "t.npy")
    pickled = pickle.dumps(tokens)
    assert len(pickled) < 1_000
    assert torch.equal(pickle.loads(pickled)[:], tokens[:])


@pytest.mark.skipif(sys.platform != "linux", reason="needs sparse files")
def test_a_file_larger_than_memory_costs_what_is_read(tmp_path):
    psutil = pytest.importorskip("psutil")
    path = tmp_path / "huge.npy"
    size = 20_000_000_000  # 40 GB, of which the disk stores nothing
    np.lib.format.open_memmap(path, mode="w+", dtype="<u2", shape=(size,))
    before = psutil.Process().memory_info().rss
    batches = PackedBatches(TokenFile(path), batch_size=16, seq_len=1_024)
    for _ in range(10):
        inputs, _ = next(batches)
    assert inputs.shape == (16, 1_024) and not inputs.any()
    assert psutil.Process().memory_info().rss - before < 50 * 2**20


# ---------------------------------------------------------------- documents

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<\r\n"))


@given(st.lists(TEXT.filter(bool)), st.integers(1, 40))
@settings(max_examples=60)
def test_documents_of_a_file(tmp_path_factory, texts, chunk):
    path = tmp_path_factory.mktemp("documents") / "t.txt"
    path.write_text(f"\n{END_OF_TEXT}\n".join(texts), encoding="utf-8", newline="")
    assert list(read_documents(path, chunk=chunk)) == texts


def test_documents_keep_their_inner_line_ends(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes(b"one\r\n\r\ntwo\r\n---\r\n\r\n---three\n")
    assert list(read_documents(path, separator="---")) == ["one\r\n\r\ntwo", "three"]


def test_copies_fall_on_the_same_side_and_the_share_is_kept():
    texts = [f"document {i}" for i in range(20_000)]
    for share in (0.0, 0.02, 0.5, 1.0):
        held = [in_validation(text, share=share) for text in texts]
        assert abs(sum(held) / len(held) - share) < 0.015
    small = {t for t in texts if in_validation(t, share=0.05)}
    assert small < {t for t in texts if in_validation(t)}  # growing keeps members
    # The split is for ever: a file that arrives next year must follow it.
    assert [i for i in range(100) if in_validation(f"document {i}")] == FIRST_HELD_OUT


FIRST_HELD_OUT = [40, 44, 59, 70, 81]


# ---------------------------------------------------------------- permutation


@given(st.integers(1, 3_000), st.integers(0, 2**70), st.integers(0, 10**6))
@settings(max_examples=60)
def test_every_number_occurs_once(size, seed, epoch):
    order = permute(np.arange(size), size, seed=seed, epoch=epoch)
    assert sorted(order.tolist()) == list(range(size))


@given(st.integers(1, 10**15), st.integers(0, 100), st.data())
@settings(max_examples=40)
def test_a_place_is_found_without_the_others(size, seed, draw):
    """By Python's integers, one place at a time, as the chapter words it."""
    place = draw.draw(st.integers(0, size - 1))
    rows = math.isqrt(size - 1) + 1  # the least whose square holds all
    columns = -(-size // rows)
    columns += columns % 2
    keys = np.random.SeedSequence(seed, spawn_key=(0,))
    words = keys.generate_state(16, np.uint64).tolist()

    def scramble(x):
        for shift, factor in (30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB):
            x = (x ^ x >> shift) * factor % 2**64
        return x ^ x >> 31

    number = place
    while True:
        row, column = number // columns, number % columns
        for k, word in enumerate(words):
            if k % 2 == 0:
                row = (row + scramble(column ^ word)) % rows
            else:
                column = (column + scramble(row ^ word)) % columns
        number = row * columns + column
        if number < size:
            break
    assert permute(place, size, seed=seed).item() == number


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6])
def test_all_orders_are_equally_likely(size):
    """Pearson's chi-squared statistic, within six standard deviations."""
    orders = torch.arange(1, size + 1).prod().item()
    seeds = max(1_000, 12 * orders)
    numbers = np.arange(size)
    counts = Counter(permute(numbers, size, seed=s).tobytes() for s in range(seeds))
    expected = seeds / orders
    statistic = sum((c - expected) ** 2 / expected for c in counts.values())
    statistic += (orders - len(counts)) * expected
    freedom = orders - 1
    assert abs(statistic - freedom) < 6 * (2 * freedom) ** 0.5


def test_neighbours_are_strangers():
    """Distances between consecutive numbers are those of a random order."""
    order = permute(np.arange(40_000), 40_000, seed=1).astype(float)
    step = np.abs(np.diff(order)) / 40_000
    assert abs(step.mean() - 1 / 3) < 0.005  # |U - V| of two uniform numbers
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.02
    again = permute(np.arange(40_000), 40_000, seed=1, epoch=1)
    assert abs(np.corrcoef(order, again)[0, 1]) < 0.02


def test_the_order_never_changes():
    """A run may outlive a version of this package, of NumPy and of torch."""
    assert permute(np.arange(12), 12).tolist() == FROZEN
    assert permute([0, 10**9], 10**12, seed=7, epoch=3).tolist() == FROZEN_FAR


FROZEN = [11, 7, 9, 3, 0, 2, 5, 4, 6, 8, 1, 10]
FROZEN_FAR = [703583970127, 98628741201]


@pytest.mark.parametrize("places", [[5], [-1], [0, 1, 99]])
def test_places_outside_are_refused(places):
    with pytest.raises(ValueError, match=r"0 … 4"):
        permute(places, 5)


def test_no_places_of_nothing():
    assert permute([], 0).tolist() == []
    with pytest.raises(ValueError, match="negative"):
        permute([0], 5, seed=-1)


# ---------------------------------------------------------------- packed batches


def make(num_tokens=103, **options):
    options = {"batch_size": 3, "seq_len": 7, "seed": 1, **options}
    return PackedBatches(torch.arange(num_tokens), **options)


def test_in_the_order_of_the_file_by_hand():
    batches = PackedBatches(
        torch.tensor([10, 11, 12, 13, 14, 15]), batch_size=1, seq_len=2, shuffle=False
    )
    found = [(x.tolist(), y.tolist()) for x, y in islice(batches, 3)]
    assert found == [
        ([[10, 11]], [[11, 12]]),
        ([[12, 13]], [[13, 14]]),
        ([[10, 11]], [[11, 12]]),
    ]
    assert batches.num_windows == 2


def test_in_the_order_of_the_file_against_unfold():
    batches = make(shuffle=False, batch_size=14)
    inputs, targets = next(batches)
    ids = torch.arange(103)
    assert torch.equal(inputs, ids[:-1].unfold(0, 7, 7))
    assert torch.equal(targets, ids[1:].unfold(0, 7, 7))
    assert inputs.dtype == targets.dtype == torch.int64


@given(
    st.integers(2, 300),
    st.integers(1, 20),
    st.integers(1, 9),
    st.integers(0, 1_000),
    st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_every_window_once_an_epoch(num_tokens, T, B, seed, shuffle):
    T = min(T, num_tokens - 1)
    batches = make(num_tokens, batch_size=B, seq_len=T, seed=seed, shuffle=shuffle)
    n = batches.num_windows
    steps = -(-3 * n // B)
    drawn = [next(batches) for _ in range(steps)]
    inputs = torch.cat([x for x, _ in drawn])[: 3 * n].view(3, n, T)
    targets = torch.cat([y for _, y in drawn])[: 3 * n].view(3, n, T)
    assert torch.equal(targets, (inputs + 1) % num_tokens)
    for epoch in targets:
        reads = torch.bincount(epoch.flatten(), minlength=num_tokens)
        assert reads.max() == 1 and (reads == 0).sum() <= T


def test_epochs_differ_in_order_and_in_cut():
    batches = make(1_000)
    n = batches.num_windows
    first, second = (batches.read(k * n, n)[0] for k in (0, 1))
    assert not torch.equal(first, second)
    assert len({*(first[:, 0] % 7).tolist()}) <= 2  # one cut, and the ring's joint
    cuts = {int(batches.starts(k * n, 1)[0]) % 7 for k in range(30)}
    assert len(cuts) > 4
    other = make(1_000, seed=2)
    assert not torch.equal(other.read(0, n)[0], first)


@given(st.integers(0, 60), st.integers(1, 8), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_it_resumes_exactly_even_with_another_batch_size(steps, before, after):
    batches = make(batch_size=before)
    for _ in range(steps):
        next(batches)
    line = json.dumps(batches.state_dict())
    resumed = make(batch_size=after)
    resumed.load_state_dict(json.loads(line))
    found = torch.cat([next(resumed)[0] for _ in range(before)])
    expected = torch.cat([next(batches)[0] for _ in range(after)])
    assert torch.equal(found, expected)


SCRIPT = """
import sys, torch
from extracted.foundations.data import PackedBatches, TokenFile

batches = PackedBatches(TokenFile(sys.argv[1]), batch_size=4, seq_len=9, seed=3)
while True:
    inputs, _ = next(batches)
    print(batches.windows_read, inputs.flatten().tolist(), flush=True)
"""


def test_a_killed_process_goes_on_with_the_next_batch(tmp_path):
    path = tmp_path / "t.npy"
    write_token_file(path, generate_stories(3), BYTES)
    run = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(path)], stdout=subprocess.PIPE, text=True
    )
    lines = [run.stdout.readline() for _ in range(25)]
    run.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    run.wait()
    run.stdout.close()
    batches = PackedBatches(TokenFile(path), batch_size=4, seq_len=9, seed=3)
    state = batches.state_dict()
    windows_read, at_20 = lines[20].split(" ", 1)
    batches.load_state_dict(state | {"windows_read": int(windows_read) - 4})
    assert next(batches)[0].flatten().tolist() == json.loads(at_20)


def test_a_file_and_a_tensor_give_the_same_batches(tmp_path):
    write_token_file(tmp_path / "t.npy", generate_stories(5), BYTES)
    tokens = TokenFile(tmp_path / "t.npy")
    pair = [
        PackedBatches(source, batch_size=4, seq_len=33)
        for source in (tokens, tokens[:].to(torch.int32))
    ]
    for _ in range(100):
        for a, b in zip(*map(next, pair)):
            assert a.dtype == b.dtype == torch.int64 and torch.equal(a, b)


@pytest.mark.parametrize(
    "change", [{"num_tokens": 104}, {"seq_len": 8}, {"seed": 2}, {"shuffle": False}]
)
def test_a_state_of_other_batches_is_refused(change):
    [(name, value)] = change.items()
    with pytest.raises(ValueError, match=f"{name} {value}"):
        make().load_state_dict(make(**change).state_dict())
    with pytest.raises(ValueError, match="num_tokens None"):
        make().load_state_dict({"windows_read": 3})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"seq_len": 0}, "seq_len=0"),
        ({"seq_len": 103}, "103 tokens hold no window of 103"),
    ],
)
def test_impossible_batches_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
    with pytest.raises(ValueError, match=r"\(2, 50\) are not one row"):
        PackedBatches(torch.zeros(2, 50), batch_size=1, seq_len=4)


def test_one_window_is_enough():
    batches = make(8, batch_size=2)
    assert batches.num_windows == 1
    inputs, targets = next(batches)  # two epochs, two cuts of the ring
    assert torch.equal(targets, (inputs + 1) % 8)


# ---------------------------------------------------------------- masks and padding


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20))
def test_document_mask_against_a_walk(ids):
    number, numbers = 0, []
    for token in ids:
        numbers.append(number)
        number += token == 0
    expected = [[a == b for b in numbers] for a in numbers]
    mask = document_mask(torch.tensor([ids, ids]), 0)
    assert mask.shape == (2, 1, len(ids), len(ids)) and mask.dtype == torch.bool
    assert mask[1, 0].tolist() == expected


def test_a_masked_document_reads_as_if_it_were_alone():
    from extracted.foundations.attention import AttentionConfig, CausalSelfAttention

    torch.manual_seed(0)
    layer = CausalSelfAttention(AttentionConfig(width=8, num_heads=2)).double()
    ids = torch.tensor([[1, 2, 9, 3, 4, 5, 9, 6]])
    x = torch.randn(1, 8, 8, dtype=torch.float64)
    packed = layer(x, mask=document_mask(ids, 9))
    alone = torch.cat([layer(x[:, part]) for part in (slice(3), slice(3, 7))], dim=1)
    assert torch.allclose(packed[:, :7], alone)
    assert not torch.allclose(layer(x)[:, 3:7], alone[:, 3:7])


@given(
    st.lists(st.lists(st.integers(0, 99), max_size=7), min_size=1, max_size=6),
    st.sampled_from(["left", "right"]),
)
def test_padding_against_torch(rows, side):
    ids, mask = pad_batch(rows, pad_id=-1, side=side)
    tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
    options = {"batch_first": True, "padding_side": side}
    assert torch.equal(ids, pad_sequence(tensors, padding_value=-1, **options))
    ones = [torch.ones(len(row), dtype=torch.bool) for row in rows]
    assert torch.equal(mask, pad_sequence(ones, padding_value=False, **options))
    assert ids.dtype == torch.int64 and mask.dtype == torch.bool
    assert [i[m].tolist() for i, m in zip(ids, mask)] == rows


def test_padding_that_equals_a_token_is_told_apart():
    _, mask = pad_batch([[5, 0], [0]], pad_id=0)
    assert mask.tolist() == [[True, True], [True, False]]


def test_bad_padding_is_refused():
    with pytest.raises(ValueError, match="'both'"):
        pad_batch([[1]], pad_id=0, side="both")
    with pytest.raises(ValueError, match="no sequences"):
        pad_batch([], pad_id=0)


@given(
    st.lists(st.integers(0, 500), max_size=200),
    st.integers(1, 20),
    st.integers(1, 10),
)
def test_buckets_hold_every_index_once(lengths, batch_size, pool_batches):
    batches = length_buckets(lengths, batch_size=batch_size, pool_batches=pool_batches)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    sizes = Counter(map(len, batches))
    del sizes[batch_size]
    assert sum(sizes.values()) <= 1  # only the last pool leaves a short batch


def test_one_pool_is_sorting_and_no_pool_is_shuffling():
    lengths = [int(n) for n in permute(np.arange(64), 64, seed=9)]
    whole = length_buckets(lengths, batch_size=8, pool_batches=8)
    spans = sorted((min(b), max(b)) for b in ([lengths[i] for i in w] for w in whole))
    assert spans == [(start, start + 7) for start in range(0, 64, 8)]
    single = length_buckets(lengths, batch_size=8, pool_batches=1)
    spread = [max(lengths[i] for i in b) - min(lengths[i] for i in b) for b in single]
    assert min(spread) > 20


def test_buckets_change_with_the_epoch_and_the_seed():
    lengths = list(range(100))
    runs = [
        length_buckets(lengths, batch_size=5, pool_batches=4, seed=s, epoch=e)
        for s, e in ((0, 0), (0, 1), (1, 0))
    ]
    again = length_buckets(lengths, batch_size=5, pool_batches=4)
    assert runs[0] == again
    assert runs[0] != runs[1] != runs[2] != runs[0]
    with pytest.raises(ValueError, match="batch_size=0"):
        length_buckets(lengths, batch_size=0)


# ---------------------------------------------------------------- prefetch


def test_prefetching_changes_nothing_but_the_time():
    for depth in (1, 2, 5):
        ahead, plain = prefetch(make(), depth), make()
        for _ in range(40):
            assert torch.equal(next(ahead)[1], next(plain)[1])
    assert list(prefetch(iter(range(7)), depth=3)) == list(range(7))
    exhausted = prefetch(iter([]))
    assert [next(exhausted, "done") for _ in range(5)] == ["done"] * 5


def test_its_state_is_that_of_the_last_batch_handed_out():
    ahead, plain = prefetch(make(), depth=3), make()
    assert ahead.state_dict() == plain.state_dict()
    for _ in range(10):
        next(ahead), next(plain)
        assert ahead.state_dict() == plain.state_dict()
    resumed = prefetch(make(), depth=3)
    next(resumed)
    resumed.load_state_dict(ahead.state_dict())
    assert resumed.state_dict() == plain.state_dict()
    for _ in range(10):
        assert torch.equal(next(resumed)[0], next(plain)[0])


def test_a_source_without_state_has_none():
    assert prefetch(iter([1, 2])).state_dict() is None
    with pytest.raises(AttributeError):
        prefetch(iter([1, 2])).load_state_dict({})


def test_an_error_comes_where_its_item_would_have():
    def source():
        yield 1
        yield 2
        raise RuntimeError("the third is broken")

    ahead = prefetch(source(), depth=5)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(RuntimeError, match="third"):
        next(ahead)
    assert next(ahead, "over") == "over"
    with pytest.raises(ValueError, match="depth 0"):
        prefetch(source(), depth=0)


def test_it_reads_depth_items_ahead_and_no_more():
    read = []

    def source():
        for i in range(100):
            read.append(i)
            yield i

    ahead = prefetch(source(), depth=4)
    wait_for(lambda: len(read) == 4)
    time.sleep(0.05)
    assert len(read) == 4
    next(ahead)
    wait_for(lambda: len(read) == 5)


def test_waiting_hides_behind_work():
    def slow():
        for i in range(8):
            time.sleep(0.02)
            yield i

    def seconds(iterator):
        start = time.perf_counter()
        for _ in iterator:
            time.sleep(0.02)
        return time.perf_counter() - start

    assert seconds(prefetch(slow())) < 0.8 * seconds(slow())


def test_the_thread_ends_with_the_prefetcher():
    def ours():
        return [t for t in threading.enumerate() if t.name.startswith("prefetch")]

    before = len(ours())
    ahead: Prefetcher[int] = prefetch(iter(range(10**9)))
    next(ahead)
    assert len(ours()) > before
    del ahead
    wait_for(lambda: len(ours()) <= before)


def wait_for(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


# ---------------------------------------------------------------- the stories


def test_story_tokens(tmp_path):
    prepare_story_tokens(tmp_path, BYTES, num_stories=40)
    for split, count in (("train", 40), ("validation", 2)):
        tokens = TokenFile(tmp_path / f"{split}.npy")
        texts = BYTES.decode(tokens[:]).split(END_OF_TEXT)
        assert texts == [*generate_stories(count, split=split), ""]
    assert sorted(os.listdir(tmp_path)) == ["train.npy", "validation.npy"]
