"""Streams of batches: nothing padded, nothing lost, bounded memory, exact resume."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import VOCABULARY, make_model
from hypothesis import given, settings
from hypothesis import strategies as st
from test_surprisal import make_bert

import netphys
from netphys.data.stream_position import POSITION, StreamPosition
from netphys.recording.corpus import SourceDigest, read_items
from netphys.recording.present import present
from netphys.recording.stream import find_words, stream_batches


@pytest.fixture(scope="module")
def subject():
    return TINY


@pytest.fixture(scope="module")
def language():
    return netphys.load_subject("builtin:language")


TINY = netphys.load_subject(make_model("gpt2"))


def make_items(n=40, seed=0, longest=25):
    rng = np.random.default_rng(seed)
    return [rng.integers(1, VOCABULARY, rng.integers(0, longest)).tolist() for _ in range(n)]


def assert_same_batches(one, two):
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        for name in ("ids", "trial", "document", "window", "first", "word", "special"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        assert a.after == b.after


# What a stream shows


def test_stream_by_hand(subject):
    items = [[1, 2, 3, 4, 5], [6, 7], [], [8, 9, 10], [11]]
    batches = list(stream_batches(subject, items, window=3, batch_size=2))
    assert [b.ids.tolist() for b in batches] == [
        [[1, 2, 3], [8, 9, 10]],
        [[4, 5], [6, 7]],
        [[11]],
    ]
    assert [b.document.tolist() for b in batches] == [[0, 3], [0, 1], [4]]
    assert [b.window.tolist() for b in batches] == [[0, 0], [1, 0], [0]]
    assert [b.first.tolist() for b in batches] == [[0, 0], [3, 0], [0]]
    assert [b.trial.tolist() for b in batches] == [[0, 1], [2, 3], [4]]
    assert batches[0].after.n_read == 5
    assert batches[0].after.n_batches == 1


def test_look_ahead_bounds_what_is_put_together(subject):
    items = [[1, 2], [1], [3, 4], [2]]
    apart = list(stream_batches(subject, items, window=4, look_ahead=2))
    assert [b.ids.tolist() for b in apart] == [[[1, 2]], [[1]], [[3, 4]], [[2]]]
    together = list(stream_batches(subject, items, window=4, look_ahead=4))
    assert [b.ids.tolist() for b in together] == [[[1, 2], [3, 4]], [[1], [2]]]


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=30),
    window=st.integers(1, 12),
    batch_size=st.integers(1, 5),
    look_ahead=st.integers(1, 12),
)
def test_property_every_token_is_shown_once(lengths, window, batch_size, look_ahead):
    subject = TINY
    items = [[(i + k) % VOCABULARY for k in range(n)] for i, n in enumerate(lengths)]
    options = {"window": window, "batch_size": batch_size, "look_ahead": look_ahead}
    if not sum(lengths):
        with pytest.raises(ValueError, match="source holds no text"):
            list(stream_batches(subject, items, **options))
        return
    seen: dict[int, dict[int, list[int]]] = {}
    trial = 0
    for batch in stream_batches(subject, items, **options):
        assert batch.ids.shape[0] <= batch_size
        assert batch.ids.shape[1] <= window
        assert batch.trial.tolist() == list(range(trial, trial + len(batch.ids)))
        trial += len(batch.ids)
        for row, document in enumerate(batch.document.tolist()):
            seen.setdefault(document, {})[int(batch.first[row])] = batch.ids[row].tolist()
    for i, item in enumerate(items):
        parts = [seen.get(i, {})[k] for k in sorted(seen.get(i, {}))]
        assert list(itertools.chain(*parts)) == item


def test_short_texts_are_tokenized_as_in_a_recording(language):
    texts = ["The dog barked at Tom's cat.", "A  bird\tsang.", "Yes."]
    for subject in (language, make_bert()):
        presentation = present(subject, netphys.load_stimuli(texts))
        for batch in stream_batches(subject, texts, window=30, batch_size=1):
            (row,) = batch.document
            table = presentation.tables[row]
            np.testing.assert_array_equal(batch.ids[0], table["token_id"])
            np.testing.assert_array_equal(batch.word[0], table["word"])
            np.testing.assert_array_equal(batch.special[0], table["special"])


def test_every_window_has_the_special_tokens():
    bert = make_bert()
    batches = list(stream_batches(bert, ["the dog the dog the"], window=5))
    ids = [row.tolist() for b in batches for row in b.ids]
    assert ids == [[2, 5, 6, 5, 3], [2, 6, 5, 3]]
    assert batches[0].special.tolist() == [[True, False, False, False, True]]
    assert [b.first.tolist() for b in batches] == [[0], [3]]


def test_a_word_that_an_edge_cuts_belongs_to_no_word():
    bert = make_bert()  # barkeds is bark ##ed ##s
    batches = list(stream_batches(bert, ["dog barkeds the"], window=4, batch_size=1))
    assert [b.ids[0].tolist() for b in batches] == [[2, 6, 7, 3], [2, 8, 9, 3], [2, 5, 3]]
    assert [b.word[0].tolist() for b in batches] == [[-1, 0, -1, -1], [-1] * 4, [-1, 2, -1]]


def test_find_words_follows_the_plain_rule(language):
    text = "  The dog's  tail,\n\nred. "
    coded = language.tokenizer(text, return_offsets_mapping=True)
    found = find_words(text, coded["offset_mapping"])
    presentation = present(language, netphys.load_stimuli([text]))
    np.testing.assert_array_equal(found, presentation.tables[0]["word"])
    assert find_words("  ", [(0, 1), (1, 2)]).tolist() == [-1, -1]
    assert find_words("", []).tolist() == []


def test_describe_rows_and_inputs_are_those_of_the_batch(subject):
    (batch,) = stream_batches(subject, [[1, 2, 3], [4, 5, 6]], window=3)
    args, kwargs = batch.make_inputs(subject)
    assert args == ()
    assert torch.equal(kwargs["input_ids"], torch.tensor([[1, 2, 3], [4, 5, 6]]))
    rows = batch.describe_rows((args, kwargs))
    assert rows.trial.tolist() == [0, 0, 0, 1, 1, 1]
    assert rows.position.tolist() == [0, 1, 2, 0, 1, 2]
    assert rows.token_id.tolist() == [1, 2, 3, 4, 5, 6]
    assert (rows.n_trials, rows.n_positions) == (2, 3)
    assert not rows.special.any()
    own = netphys.load_subject(
        torch.nn.Embedding(VOCABULARY, 2), input_fn=lambda items: torch.tensor(items)
    )
    (given_ids,), _ = batch.make_inputs(own)
    assert torch.equal(given_ids, kwargs["input_ids"])
    plain = netphys.load_subject(torch.nn.Embedding(VOCABULARY, 2))
    assert torch.equal(batch.make_inputs(plain)[0][0], kwargs["input_ids"])


# Sources


def test_all_kinds_of_source_give_the_same(language, tmp_path):
    texts = ["The dog barked.", "Two cats slept on the chair.", "Yes."]
    file = tmp_path / "corpus.txt"
    file.write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    ids = [language.tokenizer(t)["input_ids"] for t in texts]
    options = {"window": 16, "batch_size": 2}
    expected = [b.ids.tolist() for b in stream_batches(language, texts, **options)]
    sources = [
        file,
        str(file),
        [file],
        (t for t in texts),
        [{"text": t, "id": 3} for t in texts],
        [{"input_ids": i} for i in ids],
        ids,
        [np.array(i) for i in ids],
        pd.Series(texts),
    ]
    for source in sources:
        found = [b.ids.tolist() for b in stream_batches(language, source, **options)]
        assert found == expected
    other = [{"content": t} for t in texts]
    found = stream_batches(language, other, column="content", **options)
    assert [b.ids.tolist() for b in found] == expected


def test_pieces_of_a_file_are_all_of_it(tmp_path, monkeypatch):
    from netphys.recording import corpus

    monkeypatch.setattr(corpus, "_PIECE", 50)
    rng = np.random.default_rng(0)
    text = " ".join("w" * int(n) for n in rng.integers(1, 90, 60)) + "\nend"
    file = tmp_path / "long.txt"
    file.write_text(text, encoding="utf-8")
    pieces = list(read_items(file, column="text", split="piece"))
    assert "".join(pieces) == text
    assert len(pieces) > 20
    assert all(p.split() for p in pieces)
    lines = list(read_items(file, column="text", split="line"))
    assert lines == text.split("\n")


def test_digest_depends_on_items_and_where_they_are_cut():
    def digest(*items):
        found = SourceDigest()
        for item in items:
            found.add(item)
        return found.value

    values = [
        digest(),
        digest("ab"),
        digest("a", "b"),
        digest("", "ab"),
        digest(np.array([1, 2])),
        digest(np.array([1]), np.array([2])),
    ]
    assert len(set(values)) == len(values)
    assert digest("ab") == digest("ab")
    assert all(len(v) == 64 for v in values)


# Resume


@pytest.mark.parametrize("look_ahead", [1, 7, 100])
def test_resume_after_any_batch_gives_the_same_batches(subject, look_ahead):
    items = make_items()
    options = {"window": 8, "batch_size": 3, "look_ahead": look_ahead}
    whole = list(stream_batches(subject, items, **options))
    assert len(whole) > 20
    for i, batch in enumerate(whole):
        start = StreamPosition(**json.loads(json.dumps(batch.after.to_dict())))
        rest = list(stream_batches(subject, iter(items), start=start, **options))
        assert_same_batches(rest, whole[i + 1 :])
        packed = batch.after.pack()
        assert len(packed) == POSITION
        assert replace(StreamPosition.unpack(packed), plan=batch.after.plan) == batch.after
    assert StreamPosition.unpack(StreamPosition().pack()) == StreamPosition()
    from_zero = list(stream_batches(subject, items, start=StreamPosition(), **options))
    assert_same_batches(from_zero, whole)


def test_resume_of_texts(language, tmp_path):
    file = tmp_path / "corpus.txt"
    words = ["dog", "The", "cat.", "barked", "Tom", "'s", "unbelievably"]
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(words, rng.integers(1, 12))) for _ in range(50)]
    file.write_text("\n".join(lines), encoding="utf-8")
    options = {"window": 9, "batch_size": 4, "look_ahead": 10}
    whole = list(stream_batches(language, file, **options))
    for i in (0, 3, len(whole) // 2, len(whole) - 1):
        rest = list(stream_batches(language, file, start=whole[i].after, **options))
        assert_same_batches(rest, whole[i + 1 :])


def test_resume_refuses_another_corpus(subject):
    items = make_items()
    options = {"window": 8, "batch_size": 3, "look_ahead": 10}
    whole = list(stream_batches(subject, items, **options))
    start = whole[len(whole) // 2].after
    changed = [list(i) for i in items]
    changed[0] = [1, 2, 3]
    with pytest.raises(ValueError, match=r"its first \d+ items are not those"):
        list(stream_batches(subject, changed, start=start, **options))
    changed = [list(i) for i in items]
    changed[start.n_read - 1] = [1, 2, 3]  # in the block that is being shown
    with pytest.raises(ValueError, match=r"its first \d+ items are not those"):
        list(stream_batches(subject, changed, start=start, **options))
    changed = items[: start.n_read] + [[1]] * 5  # what comes after may be new
    assert list(stream_batches(subject, changed, start=start, **options))
    with pytest.raises(ValueError, match=r"source ends after 3 items; \d+ were read before"):
        list(stream_batches(subject, items[:3], start=start, **options))
    with pytest.raises(ValueError, match="start was made with window=8"):
        stream_batches(subject, items, start=start, **{**options, "window": 7})


# Memory


def test_memory_does_not_grow_with_the_corpus(subject):
    def corpus(n):
        for i in range(n):
            yield np.full(400, 1 + i % 40)

    def peak(n):
        tracemalloc.start()
        n_tokens = sum(
            b.ids.size for b in stream_batches(subject, corpus(n), window=32, look_ahead=16)
        )
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert n_tokens == 400 * n
        return most

    peak(10)  # imports and caches
    few, many = peak(40), peak(400)  # the latter is 1.3 MB of token ids
    assert many < 1.2 * few
    assert many < 700_000


def test_a_stream_reads_no_further_than_it_must(subject):
    read = []

    def corpus():
        for i in itertools.count():  # never ends
            read.append(i)
            yield [1, 2, 3]

    stream = stream_batches(subject, corpus(), window=3, batch_size=2, look_ahead=10)
    assert read == []
    next(stream)
    assert len(read) <= 10
    for _ in range(4):
        next(stream)
    assert len(read) == 10
    long = stream_batches(subject, ([1] * 3000 for _ in range(50)), window=3, look_ahead=16)
    assert next(long).after.n_read == 16  # tokenized together
    assert next(long).ids.shape == (8, 3)


# Errors


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ([1.5], TypeError, "item 0 is float 1.5. Give texts"),
        (["a", None], TypeError, "item 1 is NoneType None"),
        ([[1.5, 2.0]], TypeError, "item 0 is list"),
        ([[[1, 2]]], TypeError, "one row of token ids each"),
        ([{"body": "a"}], ValueError, "is a dict with the keys body. It needs 'text'"),
        (3, TypeError, "source=3 is no corpus"),
        ({"text": "a"}, TypeError, "is no corpus"),
        ([[1, 99]], ValueError, "item 0 has the token id 99"),
        ([[-1]], ValueError, "has the token id -1"),
        (["a text"], ValueError, "has no fast tokenizer"),
        ([], ValueError, "source holds no text"),
        ([[], []], ValueError, "source holds no text"),
        ("missing.txt", FileNotFoundError, "no such file"),
        ([Path("missing.txt")], FileNotFoundError, "no such file"),
    ],
)
def test_sources_that_cannot_be_read(subject, source, error, message):
    with pytest.raises(error, match=message):
        list(stream_batches(subject, source, window=8))


@pytest.mark.parametrize("split", ["line", "piece"])
def test_files_that_are_not_utf8(language, tmp_path, split):
    file = tmp_path / "latin.txt"
    file.write_bytes("caf\xe9".encode("latin-1"))
    with pytest.raises(ValueError, match="is not UTF-8"):
        list(stream_batches(language, file, window=8, split=split))


def test_options_of_a_stream_are_checked(subject):
    items = [[1, 2]]
    with pytest.raises(ValueError, match="window=99 is too long"):
        stream_batches(subject, items, window=99)
    with pytest.raises(ValueError, match="window=0 is too small"):
        stream_batches(subject, items, window=0)
    with pytest.raises(ValueError, match="batch_size=0 is too small"):
        stream_batches(subject, items, window=4, batch_size=0)
    with pytest.raises(ValueError, match="look_ahead=0 is too small"):
        stream_batches(subject, items, window=4, look_ahead=0)
    with pytest.raises(ValueError, match="split='lines' is unknown"):
        stream_batches(subject, items, window=4, split="lines")
    with pytest.raises(TypeError, match="Give the `after` of a batch"):
        stream_batches(subject, items, window=4, start=3)
    with pytest.raises(TypeError, match="Give the name of a column"):
        stream_batches(subject, items, window=4, column=None)
    with pytest.raises(TypeError, match="Give what load_subject returns"):
        stream_batches("gpt2", items, window=4)
    with pytest.raises(ValueError, match="has no room beside the special tokens"):
        list(stream_batches(make_bert(), ["the dog"], window=2))
