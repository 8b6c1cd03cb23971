"""Stimulus sets: what is accepted, what is refused, and how texts become samples."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import netphys


def write(tmp_path, text, name="s.tsv"):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_load_stimuli_keeps_rows_columns_and_order(tmp_path):
    path = write(tmp_path, "text\tcondition\tvalue\nA b.\tz\t1.5\nC.\ta\tn/a\n")
    stimuli = netphys.load_stimuli(path)
    assert list(stimuli.table.columns) == ["stimulus_id", "text", "condition", "value"]
    assert stimuli.table["condition"].tolist() == ["z", "a"]
    assert np.isnan(stimuli.table["value"].iloc[1])
    assert stimuli.words(0) == [(0, 1), (2, 4)]
    assert stimuli.kind == "text" and stimuli.item(1) == "C."


def test_load_stimuli_never_reads_texts_as_numbers(tmp_path):
    stimuli = netphys.load_stimuli(write(tmp_path, "stimulus_id\ttext\n01\t7\n02\t1e5\n"))
    assert stimuli.table["stimulus_id"].tolist() == ["01", "02"]
    assert [stimuli.item(0), stimuli.item(1)] == ["7", "1e5"]


def test_load_stimuli_keeps_quotes_and_the_word_null(tmp_path):
    stimuli = netphys.load_stimuli(write(tmp_path, 'text\n"Yes," she said.\nnull\n'))
    assert [stimuli.item(0), stimuli.item(1)] == ['"Yes," she said.', "null"]


def test_stimuli_hash_tells_any_change_apart():
    first = netphys.load_stimuli(["a", "b"])
    assert first.compute_hash() == netphys.load_stimuli(["a", "b"]).compute_hash()
    assert first.compute_hash() != netphys.load_stimuli(["b", "a"]).compute_hash()
    images = np.zeros((1, 3, 4, 4), np.float32)
    zero = netphys.load_stimuli(arrays=images, kind="image").compute_hash()
    images[0, 0, 0, 0] = 1e-9
    assert netphys.load_stimuli(arrays=images, kind="image").compute_hash() != zero


def test_stimuli_of_given_word_spans(tmp_path):
    path = write(tmp_path, "text\tword_spans\tword_onsets\nIt's me\t0:2 2:4 5:7\t0 0.1 0.5\n")
    assert netphys.load_stimuli(path).words(0) == [(0, 2), (2, 4), (5, 7)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text\n", "holds no stimuli"),
        ("", "holds no stimuli|has no item column"),
        ("txt\nA b.\n", r"has no item column \(columns: txt\)\. Did you mean 'text'"),
        ("text\ttoken_ids\na\t1\n", "has several item columns: text, token_ids"),
        ("stimulus_id\ttext\na\tx\na\ty\n", r"stimulus_id='a' occurs more than once \(row 2\)"),
        ("text\tcondition\na\tx\nn/a\ty\n", r"stimulus 's2' \(row 2\) is empty"),
        ("text\tbatch\na\t1\n", "column 'batch' cannot be used: a session uses that name itself"),
        ("text\ta b\na\t1\n", "column 'a b' cannot be used"),
        ("text\tonset\na\tsoon\n", "column 'onset' holds text"),
        ("text\tc\na\tx\t\n", "line 2 has 3 fields, the header 2"),
        ("text\tc\na\n", "line 2 has 1 fields, the header 2"),
        ("text\tc\na\rb\tx\n", "and a carriage return inside"),
        ("text\tc\tc\na\tx\ty\n", "has the column 'c' twice"),
        ("text\tlabel\na\tx\n", "column 'label' cannot be used"),
        ("text\ttags\na\tx\n", "column 'tags' cannot be used"),
        ("text\na\na\n", "row 2 repeats an earlier stimulus"),
        ("stimulus_id\ttext\nn/a\tx\n", "row 1 has no stimulus_id"),
        ("text\tc\na\0b\tx\n", "holds a NUL"),
        ("text\tword_onsets\na b\t0.5 0.2\n", "Give one ascending number"),
        ("token_ids\n99999999999999999999\n", "holds an impossible number"),
        ("token_ids\n1 x 3\n", "token_ids='1 x 3'. Give numbers"),
        ("text\tword_spans\nab\t0:1 1:9\n", "do not fit its text of 2 characters"),
        ("text\tword_spans\nab\t0-1\n", "Give begin:end pairs"),
        ("text\tword_onsets\na b\t0.5\n", "do not fit its 2 words"),
        ("stim_file\nnone.png\n", "none.png' does not exist"),
        ("stim_file\ns.tsv\n", "stim_file='s.tsv' is of an unknown kind"),
    ],
)
def test_load_stimuli_refuses(text, message, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        netphys.load_stimuli(write(tmp_path, text))


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        ("none.tsv", {}, FileNotFoundError, "source='none.tsv': no such file"),
        ("builtin:sentense", {}, ValueError, r"Did you mean 'builtin:sentences'"),
        ([], {}, ValueError, "holds no stimuli"),
        (["a", 3], {}, TypeError, r"source\[1\]=3 is an int"),
        (["a"], {"kind": "image"}, ValueError, "kind='image' is unknown"),
        (None, {}, TypeError, "source=None: give a table"),
        (3, {}, TypeError, "source=3 is an int"),
        ({"text": ["a"]}, {}, TypeError, "is a dict"),
        (["a"], {"rate": 5.0}, ValueError, "rate=5.0 is for frames"),
        (None, {"arrays": [np.zeros((2, 1))], "kind": "frames", "rate": 0}, ValueError, "above 0"),
        (pd.DataFrame({3: ["a"]}), {}, TypeError, "a column name of source=3"),
        (pd.DataFrame({"text": ["a"], "word_spans": [[(0, 1)]]}), {}, TypeError, "word_spans"),
        (pd.DataFrame({"text": [1.0]}), {}, TypeError, r"text \(row 1\)=1.0 is a float"),
        (None, {"arrays": [np.array(["x"])]}, TypeError, "has dtype <U1"),
        (None, {"arrays": [np.array([np.nan])]}, ValueError, "holds NaN or infinite values"),
        (None, {"arrays": [np.zeros((0, 2))]}, ValueError, "is empty: its shape is"),
        (None, {"arrays": [np.zeros(3)], "kind": "image"}, ValueError, "kind 'image' has 3 dims"),
        (None, {"arrays": [np.zeros(3)], "kind": "sound"}, ValueError, "kind='sound' is unknown"),
        (["a", "b"], {"arrays": [np.zeros(3)]}, ValueError, "arrays has 1 items, the table 2 rows"),
    ],
)
def test_load_stimuli_refuses_bad_arguments(source, options, error, message):
    with pytest.raises(error, match=message):
        netphys.load_stimuli(source, **options)


def test_load_stimuli_refuses_a_file_that_is_no_text(tmp_path):
    with pytest.raises(ValueError, match="is no UTF-8 table"):
        netphys.load_stimuli(write(tmp_path, b"\xff\xfe\x00text\n\x81\x82"))


def test_load_stimuli_repeats_need_a_number(tmp_path):
    path = write(tmp_path, "stimulus_id\trepetition\ttext\na\t1\tx\na\t2\tx\n")
    assert len(netphys.load_stimuli(path)) == 2


def test_tokens_know_their_word_characters_and_onset(tmp_path):
    """A multi-token word, a clitic span, punctuation and two onsets, by hand."""
    table = pd.DataFrame(
        {"text": ["The unbelievable zyxq ran."], "word_onsets": ["0.0 0.4 1.5 2.0"]}
    )
    stimuli = netphys.load_stimuli(table)
    subject = netphys.load_subject("builtin:language")
    session = netphys.record(subject, stimuli, tmp_path / "a.nwb", sites="embed", progress=False)
    samples = session.samples("token")
    text = table["text"][0]
    for word, rows in samples.groupby("word"):
        begin, end = stimuli.words(0)[word]
        assert rows["char_begin"].min() == begin and rows["char_end"].max() == end
        assert "".join(rows["text"]).replace("\u0120", "") == text[begin:end]
    assert samples["onset"].tolist() == [[0.0, 0.4, 1.5, 2.0][w] for w in samples["word"]]
    assert (samples["word"] == 1).sum() > 1


def test_context_is_shown_but_not_recorded(tmp_path):
    import torch

    table = pd.DataFrame(
        {"text": ["He ran home.", "He ran home."], "context": ["Tom saw a dog.", "n/a"]}
    ).replace("n/a", None)
    stimuli = netphys.load_stimuli(table)
    subject = netphys.load_subject("builtin:language")
    session = netphys.record(subject, stimuli, tmp_path / "a.nwb", progress=False)
    alone = subject.tokenizer("He ran home.")["input_ids"]
    whole = subject.tokenizer("Tom saw a dog. He ran home.", return_offsets_mapping=True)
    kept = [i for i, (a, _) in enumerate(whole["offset_mapping"]) if a >= 15]
    samples = session.samples("token").sort_values(["trial", "position"])
    assert samples[samples["trial"] == 0]["token_id"].tolist() == [
        whole["input_ids"][i] for i in kept
    ]
    assert samples[samples["trial"] == 1]["token_id"].tolist() == alone
    with torch.inference_mode():
        hidden = subject.model.eval()(torch.tensor([whole["input_ids"]]), output_hidden_states=True)
    data = session.trials("transformer.h.0")
    np.testing.assert_array_equal(data[0, : len(kept)], hidden.hidden_states[1][0, kept])
    assert session.provenance["context_rule"]


def test_images_from_files_go_through_the_processor(tmp_path):
    import transformers
    from conftest import make_model
    from PIL import Image

    folder = tmp_path / "vit"
    model = make_model("vit")
    model.save_pretrained(folder)
    processor = transformers.ViTImageProcessorPil(size={"height": 32, "width": 32})
    processor.save_pretrained(folder)
    rng = np.random.default_rng(0)
    for i in range(2):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(
            tmp_path / f"{i}.png"
        )
    np.save(tmp_path / "2.npy", rng.integers(0, 256, (20, 20, 3), dtype=np.uint8))
    path = write(tmp_path, "stim_file\n0.png\n1.png\n2.npy\n")
    subject, stimuli = netphys.load_subject(folder), netphys.load_stimuli(path)
    session = netphys.record(subject, stimuli, tmp_path / "a.nwb", sites="logits", progress=False)
    arrays = [np.asarray(Image.open(tmp_path / f"{i}.png")) for i in range(2)]
    import torch

    pixels = processor(images=[*arrays, np.load(tmp_path / "2.npy")], return_tensors="pt")
    with torch.inference_mode():
        expected = subject.model(**pixels).logits
    np.testing.assert_array_equal(session["logits"], expected)
    assert session.site_table["clock"].tolist() == ["image"]


def test_images_without_a_processor_are_refused(tmp_path):
    from conftest import make_model

    stimuli = netphys.load_stimuli(arrays=np.zeros((1, 32, 32, 3), np.uint8), kind="image")
    with pytest.raises(ValueError, match="needs an image processor"):
        netphys.record(netphys.load_subject(make_model("vit")), stimuli, tmp_path / "a.nwb")


def test_a_broken_image_is_refused(tmp_path):
    from conftest import make_model

    (tmp_path / "x.png").write_bytes(b"no image")
    stimuli = netphys.load_stimuli(write(tmp_path, "stim_file\nx.png\n"))
    with pytest.raises(ValueError, match="is not a readable image"):
        netphys.record(netphys.load_subject(make_model("vit")), stimuli, tmp_path / "a.nwb")


def test_dataframe_columns_become_plain(tmp_path, gpt2):
    table = pd.DataFrame(
        {
            "token_ids": [[1, 2], [3]],
            "when": pd.to_datetime(["2024-01-01", None]),
            "flag": pd.array([True, None], dtype="boolean"),
            "count": pd.array([1, None], dtype="Int64"),
            "group": pd.Categorical(["a", None]),
        }
    )
    session = netphys.record(gpt2, netphys.load_stimuli(table), tmp_path / "a.nwb", progress=False)
    trials = session.trial_table.sort_values("stimulus_index")
    assert trials["token_ids"].tolist() == ["1 2", "3"]
    assert trials["group"].tolist() == ["a", ""] and trials["when"].tolist()[1] == ""
    np.testing.assert_array_equal(trials["count"], [1.0, np.nan])


@pytest.mark.parametrize("trim", [True, False])
@pytest.mark.parametrize("context", ["A cat sat.", "A cat sat. ", "A cat sat.\n"])
def test_context_keeps_the_first_word_for_any_tokenizer(context, trim, tmp_path):
    """Some tokenizers count the space before a word to its token, some do not."""
    import tokenizers
    import transformers
    from conftest import make_model

    raw = tokenizers.Tokenizer(tokenizers.models.BPE())
    raw.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.post_processor = tokenizers.processors.ByteLevel(trim_offsets=trim)
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=50, show_progress=False)
    raw.train_from_iterator(["A cat sat. The dog ran. \n"] * 9, trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw)
    subject = netphys.load_subject(make_model("gpt2"), tokenizer=tokenizer)
    stimuli = netphys.load_stimuli(pd.DataFrame({"text": ["The dog ran."], "context": [context]}))
    session = netphys.record(subject, stimuli, tmp_path / "a.nwb", progress=False)
    samples = session.samples("token")
    assert "".join(samples["text"]).replace("\u0120", "") == "Thedogran."
    assert samples["word"].is_monotonic_increasing and set(samples["word"]) == {0, 1, 2}
    spans = samples.groupby("word")[["char_begin", "char_end"]]
    assert spans.min()["char_begin"].tolist() == [0, 4, 8]
    assert spans.max()["char_end"].tolist() == [3, 7, 12]


def test_ready_pixel_values_are_the_same_from_a_file_and_from_memory(tmp_path):
    import transformers
    from conftest import make_model

    make_model("vit").save_pretrained(tmp_path / "vit")
    size = {"height": 32, "width": 32}
    transformers.ViTImageProcessorPil(size=size).save_pretrained(tmp_path / "vit")
    pixels = np.random.default_rng(0).normal(size=(3, 32, 32)).astype(np.float32)
    np.save(tmp_path / "x.npy", pixels)
    subject = netphys.load_subject(tmp_path / "vit")
    sets = (
        netphys.load_stimuli(write(tmp_path, "stim_file\nx.npy\n")),
        netphys.load_stimuli(arrays=[pixels], kind="image"),
    )
    values = [
        netphys.record(subject, s, tmp_path / f"{i}.nwb", sites="logits", progress=False)["logits"]
        for i, s in enumerate(sets)
    ]
    np.testing.assert_array_equal(*values)
    scaled = netphys.load_stimuli(arrays=[np.zeros((32, 32, 3), np.float32)], kind="image")
    with pytest.raises(ValueError, match=r"needs uint8 \(height, width, 3\)"):
        netphys.record(subject, scaled, tmp_path / "c.nwb")
