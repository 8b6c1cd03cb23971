"""Surprisal: words enumerated over toy vocabularies, plain loops, and values by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from conftest import make_model
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

import netphys
from netphys.recording import meter as meter_module
from netphys.recording.boundaries import find_boundaries
from netphys.recording.meter import SurprisalMeter, compute_token_facts
from netphys.recording.surprisal import NOT_FINITE, NOTHING_BEFORE, SPECIAL, compute_surprisal

# name of the marking: tokens that begin a word, tokens within, the end of the text
TOYS = {
    "byte-level": (["Ġa", "Ġb"], ["c", "d"]),
    "sentencepiece": (["▁a", "▁b", "▁"], ["c", "d"]),
    "wordpiece": (["a", "b"], ["##c", "##d"]),
    "space": ([" a", "\nb"], ["c", "d"]),
}


def make_tokenizer(names, **special):
    vocabulary = {name: i for i, name in enumerate(names)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=names[0]))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def make_causal(size, seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = transformers.GPT2Config(
            n_layer=1, n_embd=16, n_head=2, vocab_size=size, n_positions=16, bos_token_id=0,
            eos_token_id=0, initializer_range=0.6, **options
        )  # fmt: skip
        return transformers.GPT2LMHeadModel(config).eval().double()


def make_toy(marking, seed=0):
    initial, inside = TOYS[marking]
    names = ["<e>", *initial, *inside]
    tokenizer = make_tokenizer(names, eos_token="<e>", bos_token="<e>")
    subject = netphys.load_subject(make_causal(len(names), seed), tokenizer=tokenizer)
    return subject, [names.index(n) for n in initial], [names.index(n) for n in inside]


def score(subject, ids, words, **options):
    ids = torch.tensor(ids)
    with torch.no_grad():
        logits = subject.model(input_ids=ids).logits
    return SurprisalMeter(subject, **options).score(ids, np.array(words), logits)


def sum_words(subject, context, first, inside, depth, *, corrected):
    """Return the probability of all words up to a length after a context, and what is longer."""
    total, rest = 0.0, 0.0
    for length in range(1, depth + 1):
        tokens = [list(t) for t in itertools.product(first, *[inside] * (length - 1))]
        ids = [context + t for t in tokens]
        words = [[0] * len(context) + [1] * length] * len(ids)
        scores = score(subject, ids, words)
        bits = scores.values[scores.word == 1, 0]
        with torch.no_grad():
            log = torch.log_softmax(subject.model(input_ids=torch.tensor(ids)).logits, -1)
        chain = [
            sum(float(log[i, len(context) + k - 1, t]) for k, t in enumerate(ts))
            for i, ts in enumerate(tokens)
        ]
        total += (2.0**-bits if corrected else np.exp(chain)).sum()
        if length == depth:
            goes_on = log[:, -1, inside].exp().sum(1).numpy()
            rest = float((np.exp(chain) * goes_on).sum())
    return total, rest


@pytest.mark.parametrize("marking", TOYS)
@pytest.mark.parametrize("seed", [0, 1])
def test_corrected_words_sum_to_one_and_uncorrected_do_not(marking, seed):
    subject, initial, inside = make_toy(marking, seed)
    context = [0, initial[0], inside[1]]
    with torch.no_grad():
        last = subject.model(input_ids=torch.tensor([context])).logits[0, -1].softmax(-1)
    before = float(last[[0, *initial]].sum())  # known: a word has just ended
    total, rest = sum_words(subject, context, initial, inside, 5, corrected=True)
    end = float(last[0]) / before  # the text ends instead
    assert total + end + rest / before == pytest.approx(1, abs=1e-12)
    assert rest / before < 0.5
    plain, rest = sum_words(subject, context, initial, inside, 5, corrected=False)
    assert abs(plain + float(last[0]) - 1) > 0.01
    assert abs((plain / before + end) - 1) > 0.01


def test_first_word_without_a_space_sums_to_one():
    subject, _, inside = make_toy("byte-level")
    with torch.no_grad():
        start = subject.model(input_ids=torch.tensor([[0]])).logits[0, -1].softmax(-1)
    total, rest = sum_words(subject, [0], inside, inside, 6, corrected=True)
    assert total + rest / float(start[inside].sum()) == pytest.approx(1, abs=1e-12)


def test_end_of_word_tokens_need_no_correction():
    names = ["<e>", "a</w>", "b</w>", "c", "d"]
    tokenizer = make_tokenizer(names, eos_token="<e>", bos_token="<e>")
    subject = netphys.load_subject(make_causal(5), tokenizer=tokenizer)
    context, total, going = [0, 3, 1], 0.0, [[]]
    for _ in range(5):
        ends = [t + [e] for t in going for e in (1, 2)]
        ids = [context + t for t in ends]
        scores = score(subject, ids, [[-1, 0, 0] + [1] * len(ends[0])] * len(ids))
        total += (2.0 ** -scores.values[scores.word == 1, 0]).sum()
        going = [t + [c] for t in going for c in (3, 4)]
    ids = torch.tensor([context + t for t in going])
    with torch.no_grad():
        log = torch.log_softmax(subject.model(input_ids=ids).logits, -1)
    rest = log[:, 2:-1].gather(2, ids[:, 3:, None])[..., 0].sum(1).exp().sum()
    ended = [
        torch.log_softmax(subject.model(input_ids=torch.tensor([context + list(t)])).logits, -1)[
            0, [2 + k for k in range(n + 1)], [*t, 0]
        ].sum().exp()
        for n in range(5)
        for t in itertools.product((3, 4), repeat=n)
    ]  # fmt: skip
    assert total + float(rest) + float(sum(ended).detach()) == pytest.approx(1, abs=1e-12)
    assert SurprisalMeter(subject).describe()["correction"].startswith("none: a word's last token")


def test_words_by_hand():
    subject, (a, b), (c, d) = make_toy("byte-level")
    ids, words = [[0, c, a, d, b]], [[-1, 0, 1, 1, 2]]
    scores = score(subject, ids, words)
    with torch.no_grad():
        p = subject.model(input_ids=torch.tensor(ids)).logits[0].softmax(-1).numpy()
    over = p[:, [0, a, b]].sum(1)  # after position i a word is over
    expected = [
        p[0, c] / (1 - over[0]) * over[1],
        p[1, a] * p[2, d] / over[1] * over[3],
        p[3, b] / over[3] * over[4],
    ]
    np.testing.assert_allclose(2.0 ** -scores.values[:, 0], expected, rtol=1e-12)
    entropy = -(p * np.log2(p)).sum(1)
    np.testing.assert_allclose(scores.values[:, 1], entropy[[0, 1, 3]], rtol=1e-12)
    rank = [1 + (p[i] > p[i, t]).sum() for i, t in ((0, c), (1, a), (3, b))]
    np.testing.assert_array_equal(scores.values[:, 2], rank)
    np.testing.assert_array_equal(scores.position, [1, 2, 4])
    np.testing.assert_array_equal(scores.n_tokens, [1, 2, 1])
    np.testing.assert_array_equal(scores.word, [0, 1, 2])


def test_seams_that_no_space_marks_keep_their_plain_probability():
    subject, (a, b), (c, _) = make_toy("byte-level")
    ids = [[0, a, c, b]]
    whole = score(subject, ids, [[-1, 0, 0, 1]]).values[:, 0]
    cut = score(subject, ids, [[-1, 0, 1, 2]]).values[:, 0]  # "ac" cut in two by the stimuli
    assert cut[:2].sum() == pytest.approx(whole[0], rel=1e-12)
    assert cut[2] == pytest.approx(whole[1], rel=1e-12)


def test_token_facts_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.125, 0.125], [0.25, 0.25, 0.25, 0.25]]))
    facts = compute_token_facts(logits, torch.tensor([2, 3]), np.array([True, False, True]))
    np.testing.assert_allclose(facts["surprisal"], [3, 2], rtol=1e-6)
    np.testing.assert_allclose(facts["entropy"], [1.75, 2], rtol=1e-6)
    np.testing.assert_array_equal(facts["rank"], [3, 1])  # equal ones share the better rank
    np.testing.assert_allclose(facts["boundary"], [-math.log2(0.625), 1], rtol=1e-6)
    np.testing.assert_allclose(facts["inside"], [-math.log2(0.375), 1], rtol=1e-6)


def test_token_facts_of_impossible_and_broken_logits():
    logits = torch.tensor([[0.0, -torch.inf, 0.0], [0.0, torch.nan, 0.0]])
    facts = compute_token_facts(logits, torch.tensor([1, 0]), None)
    np.testing.assert_array_equal(facts["surprisal"], [np.inf, np.nan])
    np.testing.assert_array_equal(facts["entropy"], [1, np.nan])
    np.testing.assert_array_equal(facts["rank"], [3, np.nan])


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_reference_token_facts_in_chunks(kind, monkeypatch):
    monkeypatch.setattr(meter_module, "_CHUNK_BYTES", 4 * 500 * 3)
    logits = (8 * torch.randn(10, 500, generator=torch.Generator().manual_seed(0))).to(kind)
    target = torch.arange(10)
    facts = compute_token_facts(logits, target, None)
    exact = logits.double()
    log = torch.log_softmax(exact, -1)
    bits = torch.nn.functional.cross_entropy(exact, target, reduction="none") / math.log(2)
    np.testing.assert_allclose(facts["surprisal"], bits, rtol=2e-6, atol=1e-6)
    entropy = torch.distributions.Categorical(logits=exact).entropy() / math.log(2)
    np.testing.assert_allclose(facts["entropy"], entropy, rtol=2e-6, atol=1e-6)
    rank = 1 + (log > log.gather(1, target[:, None])).sum(1)
    np.testing.assert_array_equal(facts["rank"], rank)


# A real causal model


@pytest.fixture(scope="module")
def language():
    return netphys.load_subject("builtin:language")


TEXTS = ["The dog barked. Don't!  Two\nlines", "He went home early.", "Yes"]


def test_compute_surprisal_of_tokens_is_cross_entropy(language):
    stimuli = netphys.load_stimuli(TEXTS)
    table = compute_surprisal(language, stimuli, per="token", batch_size=2, progress=False)
    for row, (_, part) in enumerate(table.groupby("stimulus_id", sort=False)):
        ids = language.tokenizer(TEXTS[row], return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = language.model(input_ids=ids).logits[0, :-1].double()
        bits = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none") / math.log(2)
        np.testing.assert_allclose(part["surprisal"].iloc[1:], bits, rtol=1e-5, atol=1e-6)
        assert part["reason"].tolist() == [NOTHING_BEFORE] + [""] * (len(part) - 1)
        assert np.isnan(part[["surprisal", "entropy", "rank"]].iloc[0].to_numpy(float)).all()
    assert "".join(table["text"][:4]) == "Thedogbarked."


def test_compute_surprisal_of_words_adds_up(language):
    stimuli = netphys.load_stimuli(TEXTS)
    words = compute_surprisal(language, stimuli, progress=False)
    tokens = compute_surprisal(language, stimuli, per="token", progress=False)
    assert list(words["text"]) == [w for t in TEXTS for w in t.split()]
    assert list(words["stimulus_id"]) == ["s1"] * 6 + ["s2"] * 4 + ["s3"]
    assert (words["measure"] == "probability").all()
    facts = words.attrs["surprisal"]
    assert facts["marking"] == "byte-level"
    assert facts["punctuation"] == "attached"
    initial = find_boundaries(language.tokenizer).initial
    ids = language.tokenizer(TEXTS[1], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        p = language.model(input_ids=ids).logits[0].double().softmax(-1)[:, initial].sum(1).log2()
    plain = tokens[tokens["stimulus_id"] == "s2"]
    first = int((plain["word"] == 0).sum())
    expected = plain["surprisal"].iloc[first:].sum() + p[first - 1] - p[-1]
    found = words.loc[words["stimulus_id"] == "s2", "surprisal"].iloc[1:].sum()
    assert found == pytest.approx(float(expected), rel=1e-5)
    same = words["entropy"].iloc[1]
    assert same == pytest.approx(tokens["entropy"].iloc[1])


def test_context_is_seen_and_signs_outside_of_words_end_them(language):
    table = pd.DataFrame(
        {
            "text": ["The dog, barked. Now"],
            "word_spans": ["0:3 4:7 9:15 17:20"],
            "context": ["Once upon a time."],
        }
    )
    words = compute_surprisal(language, netphys.load_stimuli(table), progress=False)
    assert list(words["text"]) == ["The", "dog", "barked", "Now"]
    assert words["surprisal"].notna().all()
    assert words.attrs["surprisal"]["punctuation"] == "separate"
    boundaries = find_boundaries(language.tokenizer, punctuation="separate")
    ids = language.tokenizer("Once upon a time. The dog, barked. Now", return_tensors="pt")
    tokens = ids["input_ids"][0].tolist()
    with torch.no_grad():
        log = torch.log_softmax(language.model(**ids).logits[0].double(), -1)
    over = log[:, boundaries.initial].logsumexp(1)
    at = words["position"].iloc[1]  # dog
    n = words["n_tokens"].iloc[1]
    nats = sum(log[i - 1, tokens[i]] for i in range(at, at + n)) - over[at - 1] + over[at + n - 1]
    assert words["surprisal"].iloc[1] == pytest.approx(-float(nats) / math.log(2), rel=1e-5)


def test_score_batch_follows_the_presentation(language):
    from netphys.recording.present import present

    stimuli = netphys.load_stimuli(["The dog barked.", "A cat slept."])
    presentation = present(language, stimuli)
    meter = SurprisalMeter(language)
    expected = compute_surprisal(language, stimuli, progress=False)
    for row in (0, 1):
        args, kwargs = presentation.make_inputs([row])
        with torch.no_grad():
            logits = language.model(*args, **kwargs).logits
        scores = meter.score_batch(presentation, [row], logits)
        own = expected[expected["stimulus_id"] == f"s{row + 1}"]
        np.testing.assert_allclose(scores.values[:, 0], own["surprisal"], rtol=1e-5)
        np.testing.assert_array_equal(scores.trial, 0)


def test_token_ids_have_tokens_but_no_words(gpt2, tokens):
    table = compute_surprisal(gpt2, tokens, per="token", progress=False)
    assert (table["surprisal"].isna() == (table["position"] == 0)).all()
    assert (table["text"] == "").all()
    with pytest.raises(ValueError, match="has no tokenizer, so the ends of words are unknown"):
        compute_surprisal(gpt2, tokens, progress=False)
    subject = netphys.load_subject("builtin:language")
    stimuli = netphys.load_stimuli(pd.DataFrame({"token_ids": ["1 2 3"]}))
    with pytest.raises(ValueError, match="stimuli of token ids have no words"):
        compute_surprisal(subject, stimuli, progress=False)


def test_compute_surprisal_leaves_the_subject_as_it_was(language):
    language.model.train()
    compute_surprisal(language, netphys.load_stimuli(["The dog."]), progress=False)
    assert language.model.training
    language.model.eval()


def test_broken_logits_are_missing_with_their_reason(language):
    model = make_model("gpt2")
    with torch.no_grad():
        model.transformer.ln_f.bias[0] = torch.nan
    table = compute_surprisal(
        netphys.load_subject(model),
        netphys.load_stimuli(pd.DataFrame({"token_ids": ["1 2 3"]})),
        per="token",
        progress=False,
    )
    assert list(table["reason"]) == [NOTHING_BEFORE, NOT_FINITE, NOT_FINITE]


# Masked models


def make_bert():
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "dog", "bark", "##ed", "##s", "."]
    backend = Tokenizer(models.WordPiece({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        pad_token="[PAD]", mask_token="[MASK]",
    )  # fmt: skip
    model = make_model("bert").double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(8)  # far from uniform
    return netphys.load_subject(model, tokenizer=tokenizer)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_reference_pseudo_likelihood_against_a_plain_loop(batch_size):
    subject = make_bert()
    texts = ["The dog barked.", "The barks", "dog the barkeds."]
    stimuli = netphys.load_stimuli(texts)
    table = compute_surprisal(subject, stimuli, batch_size=batch_size, progress=False)
    assert (table["measure"] == "pseudo-likelihood").all()
    assert table.attrs["surprisal"]["scheme"] == "PLL-word-l2r"
    assert "correction" not in table.attrs["surprisal"]
    row = 0
    for text in texts:
        coded = subject.tokenizer(text, return_offsets_mapping=True)
        ids = coded["input_ids"]
        for span in netphys.load_stimuli([text]).words(0):
            at = [
                i
                for i, (b, e) in enumerate(coded["offset_mapping"])
                if e > b and span[0] <= b < span[1]
            ]
            bits, own = 0.0, []
            for p in at:
                shown = list(ids)
                for q in at:
                    if q >= p:
                        shown[q] = subject.tokenizer.mask_token_id
                with torch.no_grad():
                    logits = subject.model(input_ids=torch.tensor([shown])).logits[0, p]
                log = torch.log_softmax(logits, -1) / math.log(2)
                bits -= float(log[ids[p]])
                own.append((-(log.exp2() * log).sum().item(), 1 + int((log > log[ids[p]]).sum())))
            assert table["surprisal"][row] == pytest.approx(bits, rel=1e-10)
            assert table["entropy"][row] == pytest.approx(own[0][0], rel=1e-10)
            assert table["rank"][row] == own[0][1]
            assert table["text"][row] == text[slice(*span)]
            row += 1
    assert row == len(table)


def test_tokens_of_a_masked_model_add_up_to_its_words():
    subject, stimuli = make_bert(), netphys.load_stimuli(["The dog barked."])
    words = compute_surprisal(subject, stimuli, progress=False)
    tokens = compute_surprisal(subject, stimuli, per="token", progress=False)
    assert list(tokens["reason"]) == [SPECIAL, "", "", "", "", "", SPECIAL]
    sums = tokens[tokens["word"] >= 0].groupby("word")["surprisal"].sum()
    np.testing.assert_allclose(sums, words["surprisal"], rtol=1e-12)


# Vocabularies


@pytest.mark.parametrize(
    ("names", "marking", "attached", "separate"),
    [
        (["Ġa", "b", "Ċ", ".", "Ġ(", "'s", "âĢľ", "-x", "Â\u0142"], "byte-level", "101010001",
         "101110101"),
        (["▁a", "b", "<0x0A>", ".", "▁(", "'s", "“", "-x", "▁"], "sentencepiece", "101010001",
         "101110101"),
        (["a", "##b", "c", ".", "(", "'", "“", "-", "##."], "wordpiece", "101001010", "101111111"),
        ([" a", "b", "\n", ".", " (", "'s", "“", "-x", "\t"], "space", "101010001", "101110101"),
        (["a</w>", "b", "c", ".</w>", "(", "'s", "“", "-x", "d"], "end-of-word", "0" * 9, "0" * 9),
        (["a", "b", "c", ".", "(", "'s", "“", "-x", "d"], "none", "0" * 9, "0" * 9),
    ],
)  # fmt: skip
def test_find_boundaries_of_each_kind_of_vocabulary(names, marking, attached, separate):
    tokenizer = make_tokenizer(["<u>", *names, "<s>"], unk_token="<u>", eos_token="<s>")
    for punctuation, expected in (("attached", attached), ("separate", separate)):
        found = find_boundaries(tokenizer, punctuation=punctuation)
        assert found.marking == marking
        assert "".join(str(int(b)) for b in found.initial[1:-1]) == expected
        marked = marking not in ("end-of-word", "none")
        assert found.initial[-1] == marked  # the end of the text
        assert found.initial[0] == (marking == "wordpiece")  # there it stands for a whole word
        assert found.describe()["n_initial_tokens"] == found.initial.sum()


def test_find_boundaries_of_the_built_in_subjects():
    language = find_boundaries(netphys.load_subject("builtin:language").tokenizer)
    tokenizer = netphys.load_subject("builtin:language").tokenizer
    decoded = [tokenizer.decode([i])[:1].isspace() for i in range(2048)]
    decoded[tokenizer.eos_token_id] = True
    np.testing.assert_array_equal(language.initial, decoded)
    minilm = find_boundaries(netphys.load_subject("builtin:minilm").tokenizer)
    assert minilm.marking == "wordpiece"
    assert 0 < minilm.initial.sum() < len(minilm.initial)


# Errors


def test_models_without_logits_are_refused():
    for name in ("builtin:minilm", "builtin:pixels"):
        with pytest.raises(ValueError, match="is not known to give probabilities of tokens"):
            SurprisalMeter(netphys.load_subject(name))
    config = transformers.BartConfig(
        vocab_size=20, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1,
        decoder_attention_heads=1, encoder_ffn_dim=8, decoder_ffn_dim=8,
    )  # fmt: skip
    bart = netphys.load_subject(transformers.BartForConditionalGeneration(config))
    with pytest.raises(ValueError, match="has an encoder and a decoder"):
        SurprisalMeter(bart)
    with pytest.raises(ValueError, match="no tokenizer gives its mask token"):
        SurprisalMeter(netphys.load_subject(make_model("bert")))


class Module(torch.nn.Module):
    """Gives plain logits for token ids."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(7, 7)

    def forward(self, ids):
        return self.table(ids)


def test_a_model_of_ones_own_is_scored_when_its_kind_is_said():
    subject = netphys.load_subject(Module())
    stimuli = netphys.load_stimuli(pd.DataFrame({"token_ids": ["1 2 3", "4 5"]}))
    with pytest.raises(ValueError, match="say kind='causal'"):
        compute_surprisal(subject, stimuli, per="token", progress=False)
    table = compute_surprisal(subject, stimuli, per="token", kind="causal", progress=False)
    log = torch.log_softmax(subject.model.table.weight.detach().double(), -1) / math.log(2)
    expected = [np.nan, -log[1, 2], -log[2, 3], np.nan, -log[4, 5]]
    np.testing.assert_allclose(table["surprisal"], expected, rtol=1e-6)


def test_options_of_surprisal_are_checked(language):
    stimuli = netphys.load_stimuli(["A dog."])
    with pytest.raises(ValueError, match="per='words' is unknown"):
        compute_surprisal(language, stimuli, per="words")
    with pytest.raises(ValueError, match="kind='encoder' is unknown"):
        compute_surprisal(language, stimuli, kind="encoder")
    with pytest.raises(ValueError, match="batch_size=0 is too small"):
        compute_surprisal(language, stimuli, batch_size=0)
    with pytest.raises(TypeError, match="Give what load_stimuli returns"):
        compute_surprisal(language, ["A dog."])
    with pytest.raises(ValueError, match="punctuation='none' is unknown"):
        SurprisalMeter(language, punctuation="none")
    meter = SurprisalMeter(language)
    ids, word = torch.tensor([[1, 2]]), np.array([[0, 1]])
    with pytest.raises(ValueError, match="logits=None"):
        meter.score(ids, word)
    with pytest.raises(ValueError, match=r"logits has shape \(1, 3, 5\)"):
        meter.score(ids, word, torch.zeros(1, 3, 5))


def test_models_that_are_shown_no_token_ids_are_refused():
    class Patches(torch.nn.Module):
        def forward(self, x):
            return x

    subject = netphys.load_subject(Patches())
    stimuli = netphys.load_stimuli(arrays=np.zeros((1, 3, 4), np.float32))
    with pytest.raises(ValueError, match="is not shown token ids"):
        compute_surprisal(subject, stimuli, per="token", kind="causal", progress=False)
