"""Reports: escaped, self-contained, numbers as text, written whole; seen in a real browser."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import struct
import subprocess
import zlib
from html.parser import HTMLParser
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netphys.report import Picture, Section, format_number, format_p, make_picture, save_report
from netphys.report._text import make_links, show_table

VOID = {"meta", "link", "img", "wbr"}
EVIL = (
    "\"'><script>alert(1)</script></style></title></code><img src=x onerror=alert(1)>&amp;{{7*7}}"
)


def make_png(width: int = 4, height: int = 2) -> bytes:
    """Return a grey PNG, made by hand."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        whole = kind + body
        return struct.pack(">I", len(body)) + whole + struct.pack(">I", zlib.crc32(whole))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x80" * width) * height)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", rows), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


class Page(HTMLParser):
    """The elements of a page in order, with their attributes and texts; tags must match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts.append((self.open[-1], data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]

    def text(self, *tags: str) -> list[str]:
        return [data for tag, data in self.texts if tag in tags and data.strip()]


def read(path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def save(tmp_path, *sections: Section, **head) -> Page:
    sections = sections or (Section("Question", ("Why?",)),)
    return read(save_report(tmp_path / "r.html", sections, **{"title": "A report", **head}))


# A report as a study would make it


def draw_rdm(seed: int, title: str):
    def draw(ax):
        rng = np.random.default_rng(seed)
        group = np.repeat(np.arange(6), 12)
        x = rng.normal(size=(6, 40))[group] + rng.normal(size=(72, 40)) * 1.3
        image = ax.imshow(1 - np.corrcoef(x), cmap="viridis", vmin=0)
        ax.set(title=title, xlabel="condition", ylabel="condition")
        ax.figure.colorbar(image, ax=ax, label="1 − Pearson r", shrink=0.8)

    return draw


def draw_layers(ax):
    layers = np.arange(7)
    score = np.array([0.112, 0.188, 0.291, 0.363, 0.412, 0.371, 0.302])
    twin = np.array([0.112, 0.135, 0.149, 0.152, 0.147, 0.151, 0.144])
    ax.axhspan(0.48, 0.53, color="0.88", label="noise ceiling")
    ax.fill_between(layers, score - 0.04, score + 0.04, color="C0", alpha=0.2, linewidth=0)
    ax.plot(layers, score, "o-", label="trained")
    ax.plot(layers, twin, "s--", color="0.45", label="untrained twin")
    ax.set(xlabel="layer", ylabel="RDM similarity (Spearman r)", ylim=(0, 0.6))
    ax.set_title("n = 16 participants, 96 sentences")
    ax.legend(frameon=False, loc="lower center", ncols=3)
    ax.spines[["top", "right"]].set_visible(False)


def make_demo() -> tuple[list[Section], dict[str, object]]:
    """Return the sections and the head of a report with everything in it."""
    layers = pd.DataFrame(
        {
            "Spearman r": [0.112, 0.188, 0.291, 0.363, 0.412, 0.371, 0.302],
            "95 % interval": [
                (r - 0.041, r + 0.039) for r in (0.112, 0.188, 0.291, 0.363, 0.412, 0.371, 0.302)
            ],
            "untrained twin": [0.112, 0.135, 0.149, 0.152, 0.147, 0.151, 0.144],
            "difference": [0.0, 0.053, 0.142, 0.211, 0.265, 0.22, 0.158],
            "p (corrected)": [math.nan, 0.0412, 0.0021, 0.0002, 0.0002, 0.0002, 0.0011],
            "share of ceiling": [0.222, 0.372, 0.576, 0.719, 0.816, 0.735, 0.598],
            "best in participants": [0, 0, 1, 3, 9, 2, 1],
        },
        index=pd.Index([f"encoder.layer.{k}" for k in range(7)], name="site"),
    )
    controls = pd.DataFrame(
        {
            "control": [
                "Untrained twin, 5 seeds",
                "Shuffled sentence labels",
                "Sentence length alone",
                "Other participants (ceiling)",
            ],
            "keeps": [
                "architecture, tokenizer, sentence lengths",
                "all values of both RDMs",
                "number of words and of letters",
                "everything but the participant",
            ],
            "Spearman r": [0.147, -0.0004, 0.0917, 0.505],
            "n draws": [5, 10000, None, 16],
            "p": [0.0002, 0.0001, 0.012, None],
        }
    )
    recording = pd.DataFrame(
        {
            "file": ["trained.nwb", "random-0.nwb"],
            "weights (SHA-256)": ["9f2c1e" * 10 + "ab12", "e1d407" * 10 + "77f0"],
            "sites": [7, 7],
            "samples": [1843, 1843],
            "bytes": [19_816_448, 19_816_448],
            "complete": [True, True],
        }
    )
    bibtex = (
        "@article{kriegeskorte2008,\n  author = {Kriegeskorte, Nikolaus and Mur, Marieke and "
        "Bandettini, Peter},\n  title = {Representational similarity analysis: connecting the "
        "branches of systems neuroscience},\n  journal = {Frontiers in Systems Neuroscience},\n"
        "  volume = {2},\n  year = {2008},\n  doi = {10.3389/neuro.06.004.2008}\n}"
    )
    provenance = {
        "protocol": "quickstart",
        "seeds": {"null": 20_240_501, "twin": [0, 1, 2, 3, 4]},
        "versions": {"netphys": "0.1.0", "numpy": "2.2.1", "torch": "2.6.0"},
        "batch_plan": [{"batch": k, "trials": [4 * k, 4 * k + 3]} for k in range(8)],
    }
    sections = [
        Section(
            "Question",
            [
                "Which layer of a small language model orders sentences most as the language "
                "regions of sixteen simulated participants do, and is it the layer from which "
                "their responses were made?"
            ],
        ),
        Section(
            "Subject",
            [
                "A transformer encoder with six blocks of 384 units, embedding layer included as "
                "layer 0. Its untrained twins have the same architecture and tokenizer and "
                "weights drawn anew with five seeds."
            ],
        ),
        Section(
            "Stimuli",
            ["96 English sentences in six conditions, 4 to 11 words long, each shown once."],
        ),
        Section(
            "Recording",
            ["Residual stream after each block, pooled over the words of a sentence, float32."],
            tables={"Recorded files. Every site was recorded bit by bit as computed.": recording},
        ),
        Section(
            "Results",
            ["Sentences of one condition draw together from layer 2 on."],
            pictures=[
                make_picture(
                    [draw_rdm(1, "layer 4"), draw_rdm(2, "language regions")],
                    caption="Dissimilarities of 72 sentences in layer 4 (A) and, averaged over 16 "
                    "participants, in the language regions (B). Sentences in the order of "
                    "presentation by condition.",
                    alt="Two matrices of dissimilarities with the same six blocks on the diagonal.",
                )
            ],
        ),
        Section(
            "Brain match",
            [
                "Similarity rises up to layer 4 and falls again. Layer 4 is the layer that the "
                "simulated responses were made from: it was recovered, in 9 of 16 participants "
                "also individually."
            ],
            pictures=[
                make_picture(
                    draw_layers,
                    caption="Similarity of layer RDMs to participants' RDMs, mean and 95 % "
                    "bootstrap interval over participants and sentences. Grey band: noise "
                    "ceiling of the same target, lower to upper bound.",
                    alt="The curve of the trained model peaks at layer 4 with .41, below the "
                    "ceiling of .48 to .53; the untrained twin stays near .15.",
                )
            ],
            tables={
                "Match by layer. Intervals: bootstrap over participants and sentences, 10,000 "
                "draws; p against the untrained twin, corrected over layers "
                "(Benjamini-Hochberg).": layers
            },
        ),
        Section(
            "Controls",
            [
                "What the same analysis gives where the answer is known to be nothing, or less:",
                "- The untrained twin has no knowledge of language; what it reaches comes from "
                "architecture and word lengths.\n- Shuffled labels keep every value and break "
                "only which sentence is which.\n- A motion control was not computed: the "
                "simulated participants do not move.",
            ],
            tables={"Controls of layer 4.": controls},
        ),
        Section(
            "What it holds for",
            [
                "New participants and new sentences of these six conditions. One trained model "
                "was tested, so nothing is said about other seeds of its training."
            ],
        ),
        Section(
            "Methods",
            [
                "Dissimilarity was one minus the Pearson correlation of unit patterns; RDMs were "
                "compared by Spearman correlation (Nili et al. 2014, "
                "doi:10.1371/journal.pcbi.1003553; Kriegeskorte et al. 2008, "
                "https://doi.org/10.3389/neuro.06.004.2008)."
            ],
            code={"References (BibTeX)": bibtex},
        ),
        Section(
            "Provenance",
            ["Everything needed to make the numbers again."],
            code={"Provenance (JSON)": json.dumps(provenance, indent=2)},
        ),
    ]
    head = {
        "title": "Layer 4 of a small language model matches the simulated language regions",
        "subtitle": "Protocol quickstart: 96 sentences, six blocks, 16 simulated participants",
        "headline": "Layer 4 is most similar to the language regions: Spearman r = .41, 95 % CI "
        "[.37, .45], 82 % of the noise ceiling. It is the true layer.",
        "control": "+.27 over its untrained twin (95 % CI [.21, .32], p < .001); shuffled "
        "sentence labels give .00.",
        "facts": {
            "Subject": "builtin:language, 6 blocks, 384 units",
            "Stimuli": "builtin:sentences, 96 trials",
            "Brain": "simulated, 16 participants",
            "Test": "permutation of sentences, 10,000 draws",
            "Made on": "3 May 2025, 14:02 UTC",
            "Software": "netphys 0.1.0, https://example.org/netphys",
        },
    }
    return sections, head


# What stands in the file


def test_save_report_writes_sections_in_order_with_anchors(tmp_path):
    page = save(
        tmp_path,
        Section("Brain match", ("One.\n\nTwo.",)),
        Section("Brain match", ("- a\n- b", "- a\nb")),
        Section("Ω"),
    )
    assert page.text("h1", "h2") == ["A report", "Contents", "Brain match", "Brain match", "Ω"]
    assert [s["id"] for s in page.all("section")] == ["brain-match", "brain-match-2", "section"]
    inside = [a["href"] for a in page.all("a") if a["href"].startswith("#")]
    assert inside == ["#main_", "#brain-match", "#brain-match-2", "#section"]
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids)) and {link[1:] for link in inside} <= set(ids)
    assert page.text("p") == ["One.", "Two.", "- a\nb"]
    assert page.text("li") == ["a", "b"]
    assert page.all("html")[0]["lang"] == "en"
    assert page.text("title") == ["A report"]


def test_save_report_shows_headline_with_its_control_and_facts(tmp_path):
    page = save(
        tmp_path, headline="It is layer 4.", control="+.27 over the twin.", facts={"Subject": "S"}
    )
    told = page.text("p")
    assert told.index("It is layer 4.") < told.index("+.27 over the twin.") < told.index("Why?")
    assert (page.text("dt"), page.text("dd")) == (["Subject"], ["S"])


def test_save_report_shows_every_picture_with_number_alt_and_size(tmp_path):
    one = Picture((make_png(40, 20),), "First caption", "first alt")
    two = Picture([make_png(), make_png()], "Second caption", "second alt")
    page = save(tmp_path, Section("A", pictures=[one]), Section("B", pictures=[two]))
    images = page.all("img")
    assert [i["alt"] for i in images] == [
        "first alt",
        "Panel A: second alt",
        "Panel B: described with panel A",
    ]
    assert (images[0]["width"], images[0]["height"]) == ("20", "10")
    assert all(i["src"].startswith("data:image/png;base64,iVBOR") for i in images)
    assert len(page.all("figure")) == len(page.all("figcaption")) == 2
    assert page.text("figcaption") == [" First caption", " Second caption"]
    assert [f["id"] for f in page.all("figure")] == ["figure_1", "figure_2"]


def test_save_report_shows_tables_with_caption_scope_and_missing_values(tmp_path):
    frame = pd.DataFrame({"region": ["IT", "V1"], "r": [0.4912, None], "p": [0.0004, 0.25]})
    page = save(tmp_path, Section("A", tables={"By region.": frame}))
    assert page.text("caption", "span") == [" By region."]
    assert [th.get("scope") for th in page.all("th")] == ["col"] * 3 + ["row"] * 2
    assert page.text("tbody", "th", "td", "abbr") == [
        *("region", "r", "p"),
        *("IT", "0.491", "< .001"),
        *("V1", "n/a", ".250"),
    ]
    assert page.all("abbr") == [{"title": "not available"}]


def test_save_report_folds_long_listings_only(tmp_path):
    code = {"short": "a\n  b", "long": "\n".join("x" * 20)}
    page = save(tmp_path, Section("A", code=code))
    assert [d for d in page.all("details")] == [{"open": None}, {}]
    assert page.text("summary", "small") == ["short ", "(2 lines)", "long ", "(20 lines)"]
    assert page.text("code")[0] == "a\n  b"


def test_save_report_escapes_every_text(tmp_path):
    frame = pd.DataFrame({EVIL: [EVIL], ("b", EVIL): [1.0]}, index=pd.Index([EVIL], name=EVIL))
    frame.columns = [EVIL, "b " + EVIL]
    section = Section(
        EVIL,
        (EVIL, f"- {EVIL}\n- javascript:alert(1)"),
        (Picture((make_png(), make_png()), EVIL, EVIL),),
        {EVIL: frame},
        {EVIL: EVIL},
    )
    page = save(
        tmp_path,
        section,
        title=EVIL,
        subtitle=EVIL,
        headline=EVIL,
        control=EVIL,
        facts={EVIL: EVIL},
    )
    harmless = save(tmp_path)
    assert not page.all("script")
    assert len(page.all("style")) == len(harmless.all("style")) == 1
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    assert len(page.all("img")) == 2 and page.all("img")[0]["alt"] == f"Panel A: {EVIL}"
    assert all(a["href"].startswith("#") for a in page.all("a"))
    for tag in ("title", "h1", "h2", "dt", "dd", "th", "td", "li", "code", "figcaption", "p"):
        assert EVIL in "".join(page.text(tag)), tag
    assert sum(text.count(EVIL) for _, text in page.texts) == 20


def test_save_report_loads_nothing_and_runs_nothing(tmp_path):
    sections, head = make_demo()
    path = save_report(tmp_path / "r.html", sections, **head)
    page = read(path)
    for tag, attrs in page.elements:
        for name in ("src", "href", "srcset", "poster", "data", "action", "background"):
            target = attrs.get(name) or "data:"
            if tag != "a":
                assert target.startswith("data:"), (tag, target[:60])
            else:
                assert target == "data:" or urlsplit(target).scheme in ("https", "http", "")
    names = {tag for tag, _ in page.elements}
    assert not names & {"script", "iframe", "object", "embed", "form", "base", "audio", "video"}
    style = "".join(page.text("style"))
    assert "url(" not in style and "@import" not in style
    metas = {m.get("http-equiv"): m["content"] for m in page.all("meta") if "content" in m}
    policy = metas["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    first = [tag for tag, _ in page.elements].index("meta")
    assert page.elements[first + 1][1]["http-equiv"] == "Content-Security-Policy"
    assert len(page.all("img")) == 3
    assert path.stat().st_size < 1_000_000


def test_save_report_takes_what_is_no_character(tmp_path):
    path = save_report(tmp_path / "r.html", [Section("A", ("\ud800 and \0",))], title="T")
    assert "&#55296; and" in path.read_text(encoding="utf-8")


# Links


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("see https://a.org/b_(c).", ["https://a.org/b_(c)"]),
        ("(see http://a.org/b)", ["http://a.org/b"]),
        ("doi:10.1371/journal.pcbi.1003553.", ["https://doi.org/10.1371/journal.pcbi.1003553"]),
        (
            "(10.1016/S0006-3495(96)79220-X)",
            ["https://doi.org/10.1016/S0006-3495(96)79220-X"],
        ),
        ("https://doi.org/10.7554/eLife.82566", ["https://doi.org/10.7554/eLife.82566"]),
        ("10.1000/a?b#c", ["https://doi.org/10.1000/a%3Fb%23c"]),
        ("https://a.org/?x=1&y=2", ["https://a.org/?x=1&y=2"]),
        ("javascript:alert(1) data:text/html,x ftp://a.org //a.org www.a.org", []),
        ("https://user@a.org http:// https://[::1 10.1000/ .10.1000/x", []),
        ('https://a.org/"onclick="x', ["https://a.org/"]),
    ],
)
def test_make_links_links_addresses_and_dois_only(text, targets):
    page = Page(f"<p>{make_links(text)}</p>")
    assert [a["href"] for a in page.all("a")] == targets
    assert {a["rel"] for a in page.all("a")} <= {"noopener noreferrer"}
    assert "".join(data for _, data in page.texts) == text


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from("https:/10.1234&<>\"'()[]@#%?= ajvscript"), max_size=40))
def test_property_make_links_keeps_the_text_and_adds_only_web_links(text):
    page = Page(f"<p>{make_links(text)}</p>")
    assert "".join(data for _, data in page.texts) == text
    assert {tag for tag, _ in page.elements} <= {"p", "a", "wbr"}
    assert all(re.match("https?://", a["href"], re.IGNORECASE) for a in page.all("a"))


# Numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.49123, "0.491"),
        (0.0123456, "0.0123"),
        (-0.5, "−0.500"),
        (0.99999, "1.00"),
        (123.456, "123"),
        (1234.5, "1234"),
        (12345.6, "12,346"),
        (9999.7, "10,000"),
        (2.0, "2"),
        (-0.0, "0"),
        (2008, "2008"),
        (1_000_000, "1,000,000"),
        (10**30, "1" + ",000" * 10),
        (2.5e-7, "2.50 × 10⁻⁷"),
        (-1.234e12 - 0.5, "−1.23 × 10¹²"),
        (np.float32(0.1), "0.100"),
        (np.int64(3), "3"),
        (math.nan, "n/a"),
        (-math.inf, "−∞"),
    ],
)
def test_format_number_by_hand(value, text):
    assert format_number(value) == text


@given(st.floats(-1e300, 1e300))
def test_property_format_number_is_near_the_value(value):
    text = format_number(value).replace("−", "-").replace(",", "")
    number, _, power = text.partition(" × 10")
    power = power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
    assert float(f"{number}e{power or 0}") == pytest.approx(value, rel=0.00501)


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0, "< .001"),
        (0.00099, "< .001"),
        (0.001, ".001"),
        (0.0124, ".012"),
        (0.5, ".500"),
        (0.9996, "> .999"),
        (1, "1"),
        (math.nan, "n/a"),
        (1.5, "1.50"),
    ],
)
def test_format_p_by_hand(p, text):
    assert format_p(p) == text


def test_format_p_with_a_symbol():
    assert [format_p(p, symbol="p") for p in (0.0001, 0.04)] == ["p < .001", "p = .040"]


def cells(values, name="value") -> list[str | None]:
    return [row[-1] for row in show_table(pd.DataFrame({name: values}))["rows"]]


def test_show_table_gives_one_column_the_same_decimals():
    assert cells([0.491, 0.08321, -0.0041]) == ["0.491", "0.083", "−0.004"]
    assert cells([12.34, 0.5]) == ["12.3", "0.5"]
    assert cells([0.147, -0.0004]) == ["0.1470", "−0.0004"]
    assert cells([0.5, 1.25e-6]) == ["0.500", "1.25 × 10⁻⁶"]
    assert cells([1.0, 96.0, math.nan]) == ["1", "96", None]
    assert cells([0.25, math.inf, 0.0]) == ["0.250", "∞", "0.000"]


@pytest.mark.parametrize("name", ["p", "q", "p (corrected)", "p_fdr", "corrected p", "P-value"])
def test_show_table_knows_columns_of_p_values(name):
    assert cells([0.0001, 0.0123], name) == ["< .001", ".012"]


@pytest.mark.parametrize("name", ["r", "power", "P", "participants", "q75", "step"])
def test_show_table_takes_no_other_column_for_p_values(name):
    assert cells([0.5, 0.0123], name) == ["0.500", "0.012"]


def test_show_table_shows_intervals_booleans_texts_and_mixtures():
    assert cells([(0.371, 0.4512), None]) == ["[0.371, 0.451]", None]
    assert cells([True, False]) == ["yes", "no"]
    assert cells([None, None]) == [None, None]
    assert cells(["a", 0.12345, (1, 2.5), pd.NA]) == ["a", "0.123", "[1, 2.50]", None]
    assert cells(pd.to_datetime(["2008-12-26"])) == ["2008-12-26 00:00:00"]


def test_show_table_keeps_index_levels_and_doubled_columns():
    index = pd.MultiIndex.from_product([["a", "b"], [1]], names=["site", None])
    frame = pd.DataFrame([[1, 2], [3, 4]], index=index)
    frame.columns = pd.MultiIndex.from_tuples([("x", "y"), ("x", "y")])
    shown = show_table(frame)
    assert [c["name"] for c in shown["columns"]] == ["site", "", "x y", "x y"]
    assert [c["heads"] for c in shown["columns"]] == [True, True, False, False]
    assert shown["rows"] == [("a", "1", "1", "2"), ("b", "1", "3", "4")]


def test_show_table_of_nothing_is_empty():
    assert show_table(pd.DataFrame())["rows"] == []
    assert show_table(pd.DataFrame({"r": []}))["columns"][0]["name"] == "r"


# Pictures


def test_make_picture_draws_panels_and_leaves_pyplot_alone():
    import matplotlib.pyplot as plt

    before = plt.get_fignums(), dict(plt.rcParams)
    seen = []
    picture = make_picture([seen.append, seen.append], caption="c", alt="a", size=(2, 1))
    assert len(picture.images) == len({id(ax) for ax in seen}) == 2
    assert struct.unpack(">II", picture.images[0][16:24]) == (384, 192)
    assert (plt.get_fignums(), dict(plt.rcParams)) == before
    assert all(hasattr(ax, "plot") for ax in seen)


def test_make_picture_shows_what_was_drawn():
    import io

    from matplotlib.image import imread

    red = make_picture(lambda ax: ax.set_facecolor("red"), caption="c", alt="a", size=(2, 2))
    pixels = imread(io.BytesIO(red.images[0]), format="png")
    assert pixels[192, 192, :3].tolist() == [1, 0, 0]
    assert pixels[0, 0, :3].tolist() == [1, 1, 1]


# Bad input


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Section(""), ValueError, "title is empty"),
        (lambda: Section("A", "text"), TypeError, "paragraphs is of type str. Give a tuple"),
        (lambda: Section("A", (1,)), TypeError, r"paragraphs\[0\] is of type int"),
        (lambda: Section("A", pictures=[b""]), TypeError, "Give a tuple or list of Pictures"),
        (lambda: Section("A", tables=pd.DataFrame()), TypeError, "tables is of type DataFrame"),
        (lambda: Section("A", tables={"c": [1]}), TypeError, r"tables\['c'\] is of type list"),
        (lambda: Section("A", tables={"": pd.DataFrame()}), ValueError, "a name in tables is emp"),
        (lambda: Section("A", code="x"), TypeError, "code is of type str. Give a dict from names"),
        (lambda: Picture((), "c", "a"), ValueError, "images is empty"),
        (lambda: Picture(b"x", "c", "a"), TypeError, "images is of type bytes"),
        (lambda: Picture((b"GIF",), "c", "a"), ValueError, r"images\[0\] is not a complete PNG"),
        (lambda: Picture((make_png()[:-9],), "c", "a"), ValueError, "not a complete PNG"),
        (lambda: Picture((make_png(),), "c", " "), ValueError, "alt is empty"),
        (lambda: make_picture([], caption="c", alt="a"), ValueError, "draw is empty"),
        (lambda: make_picture([1], caption="c", alt="a"), TypeError, r"draw\[0\] is of type int"),
    ],
)
def test_parts_refuse_what_they_cannot_show(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"sections": []}, ValueError, "sections is empty"),
        ({"sections": ["A"]}, TypeError, r"sections\[0\] is of type str"),
        ({"sections": Section("A")}, TypeError, "Give a tuple or list of Sections"),
        ({"title": " "}, ValueError, "title is empty"),
        ({"subtitle": None}, TypeError, "subtitle=None is a NoneType"),
        ({"headline": "Found."}, ValueError, "headline and control go together"),
        ({"control": "Not."}, ValueError, "headline and control go together"),
        ({"facts": {"n": 3}}, TypeError, r"facts\['n'\] is of type int"),
    ],
)
def test_save_report_refuses_what_it_cannot_show(tmp_path, given, error, message):
    given = {"sections": [Section("A")], "title": "T", **given}
    with pytest.raises(error, match=message):
        save_report(tmp_path / "r.html", given.pop("sections"), **given)
    assert not list(tmp_path.iterdir())


def test_save_report_refuses_bad_places(tmp_path):
    def to(path, **options):
        return save_report(path, [Section("A")], title="T", **options)

    with pytest.raises(TypeError, match="path=3 is an int"):
        to(3)
    with pytest.raises(FileNotFoundError, match=r"the folder .*no of path=.* does not exist. Make"):
        to(tmp_path / "no" / "r.html")
    with pytest.raises(IsADirectoryError, match=r"is a folder\. Give the name of a file in it"):
        to(tmp_path)
    (tmp_path / "r.html").write_text("old")
    with pytest.raises(FileExistsError, match=r"r\.html exists\. .* pass overwrite=True"):
        to(tmp_path / "r.html", overwrite=False)
    assert (tmp_path / "r.html").read_text() == "old"
    assert to(tmp_path / "r.html") == tmp_path / "r.html"
    assert "<h1>T</h1>" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize("name", ["r.html", "x" * 250])
def test_save_report_leaves_the_old_file_when_writing_fails(tmp_path, monkeypatch, name):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    path = tmp_path / name
    path.write_text("old")
    monkeypatch.setattr(os, "replace", refuse)
    message = r"cannot be written \((Permission denied|File name too long)\). Choose another path"
    with pytest.raises(OSError, match=message):
        save_report(path, [Section("A")], title="T")
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert path.read_text() == "old"


def test_save_report_gives_the_file_the_usual_rights(tmp_path):
    (tmp_path / "usual").touch()
    path = save_report(tmp_path / "r.html", [Section("A")], title="T")
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode


# In a browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-quic", "--disable-sync", "--disable-background-networking"),
    *("--disable-component-update", "--allow-file-access-from-files"),
    *("--enable-logging=stderr", "--virtual-time-budget=10000"),
)
WIDTHS = (360, 1400)
WRAPPER = """<!DOCTYPE html><meta charset="utf-8"><body><script>
const widths = %s, seen = [];
for (const width of widths) {
  const frame = document.createElement("iframe");
  frame.style = `width: ${width}px; height: 900px; border: 0`;
  frame.onload = () => {
    const page = frame.contentDocument, root = page.documentElement;
    seen.push({
      width: frame.contentWindow.innerWidth,
      scroll: root.scrollWidth,
      images: [...page.images].map((image) => image.naturalWidth),
      title: page.title,
    });
    if (seen.length === widths.length) document.body.textContent = JSON.stringify(seen);
  };
  frame.src = "report.html";
  document.body.append(frame);
}
</script>"""


def look(folder) -> tuple[list[dict], list[str]]:
    """Open ``report.html`` of `folder` at both widths; return what was seen and the console."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser found: none of {', '.join(BROWSERS)} is installed")
    wrapper = folder / "wrapper.html"
    wrapper.write_text(WRAPPER % list(WIDTHS), encoding="utf-8")
    done = subprocess.run(
        [browser, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", wrapper.as_uri()],
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told = "".join(
        Page(done.stdout[done.stdout.index("<body>") :].split("</html>")[0]).text("body")
    )
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return sorted(json.loads(told), key=lambda seen: seen["width"]), console


@pytest.mark.slow
def test_report_opens_in_a_browser_at_two_widths(tmp_path):
    sections, head = make_demo()
    wide = pd.DataFrame(np.eye(3, 40), columns=[f"a long name of column {k}" for k in range(40)])
    breakless = "x" * 400
    more = Section(
        breakless,
        (breakless, f"- {breakless}", f"https://example.org/{breakless}"),
        (Picture((make_png(4000, 20),), breakless, "alt"),),
        {"Wide.": wide, breakless: pd.DataFrame({breakless: [breakless]})},
        {breakless: breakless},
    )
    head["facts"] = {**head["facts"], breakless: breakless}
    save_report(tmp_path / "report.html", [*sections, more], **head)
    seen, console = look(tmp_path)
    assert console == []
    assert [s["width"] for s in seen] == list(WIDTHS)
    for one in seen:
        assert one["title"] == head["title"]
        assert len(one["images"]) == 4 and min(one["images"]) > 0
        assert one["scroll"] <= one["width"]


@pytest.mark.slow
def test_browser_lets_nothing_that_is_evil_run(tmp_path):
    frame = pd.DataFrame({EVIL: [EVIL]}, index=[EVIL])
    section = Section(EVIL, (EVIL,), (Picture((make_png(),), EVIL, EVIL),), {EVIL: frame})
    head = {"title": EVIL, "headline": EVIL, "control": EVIL, "facts": {EVIL: EVIL}}
    save_report(tmp_path / "report.html", [section], **head)
    seen, console = look(tmp_path)
    assert console == []
    assert [(s["title"], s["images"]) for s in seen] == [(EVIL, [4])] * 2


@pytest.mark.slow
def test_browser_check_notices_a_broken_report(tmp_path):
    path = save_report(tmp_path / "report.html", [Section("A")], title="T")
    text = path.read_text(encoding="utf-8")
    extra = (
        "<script>alert(1)</script><img src='https://example.org/x.png' alt='x'>"
        "<div style='width: 2000px'>wide</div>"
    )
    path.write_text(text.replace("</main>", extra + "</main>"), encoding="utf-8")
    seen, console = look(tmp_path)
    assert len(console) >= 2
    assert all(s["images"] == [0] and s["scroll"] > s["width"] for s in seen)
