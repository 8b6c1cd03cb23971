"""Where words begin in a vocabulary: which tokens say that the word before them is over."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from netphys._check import check_option

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PUNCTUATION = ("attached", "separate")
_WITHIN = "'’-‐‑"  # signs that stand within words
_SPACE_BYTES = ("<0x20>", "<0x09>", "<0x0A>", "<0x0D>")


@dataclass(frozen=True)
class Boundaries:
    """Which tokens of a vocabulary begin a word, or end the text.

    Parameters
    ----------
    marking : str
        How the tokenizer marks words: "byte-level" (a token carries the space before it),
        "sentencepiece" (the same as ▁), "space" (white space as it is), "wordpiece" (## on all
        tokens but the first of a word), "end-of-word" (``</w>`` on the last) or "none".
    initial : ndarray of bool, shape (n_tokens,)
        True for a token before which a word is over; all False where the last token of a word
        itself says that it is over, or nothing does.
    punctuation : str
        "attached": signs belong to the word that they touch; "separate": they end it.
    """

    marking: str
    initial: np.ndarray
    punctuation: str

    def describe(self) -> dict:
        """Return what is said of the correction in a file.

        Returns
        -------
        facts : dict
            JSON-ready.
        """
        rules = {"end-of-word": "none: a word's last token says that it is over"}
        rules["none"] = "none: no token of this vocabulary says where a word is over"
        rule = rules.get(self.marking, "mass of word-initial tokens moved to the word before")
        return {
            "marking": self.marking,
            "correction": rule,
            "n_initial_tokens": int(self.initial.sum()),
            "punctuation": self.punctuation,
        }


def find_boundaries(
    tokenizer: PreTrainedTokenizerBase, *, punctuation: str = "attached"
) -> Boundaries:
    """Find out how a tokenizer marks words, and which tokens begin one.

    Parameters
    ----------
    tokenizer : tokenizer
        Of transformers.
    punctuation : str
        "attached": words are what white space separates, with the signs that touch them;
        "separate": signs are no part of words, so a token that begins with one ends the word before
        it (but for apostrophes and hyphens, which stand within words).

    Returns
    -------
    boundaries : Boundaries
        Special tokens count as word-initial: where one stands a word is over. Not so one that is
        for unknown pieces alone.

    Notes
    -----
    White space of any kind at the start of a token marks a beginning. In a WordPiece vocabulary a
    sign is a token of its own whether or not a space was before it; with "attached" signs are taken
    to continue a word.
    """
    check_option("punctuation", punctuation, PUNCTUATION)
    names = [str(n) for n in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))]
    marking = _find_marking(names)
    pieces = [_read_piece(n, marking) for n in names]
    if marking in ("end-of-word", "none"):
        return Boundaries(marking, np.zeros(len(names), bool), punctuation)
    sign = np.array([_is_sign(p.lstrip()[:1]) and not p[:1].isspace() for p in pieces])
    if marking == "wordpiece":
        initial = np.array([not n.startswith("##") for n in names])
        initial &= ~sign
    else:
        initial = np.array([p[:1].isspace() for p in pieces])
    if punctuation == "separate":
        initial |= sign
    special = [i for i in tokenizer.all_special_ids if i < len(initial)]
    initial[special] = True
    unknown = tokenizer.unk_token_id
    # of GPT-2 it is the end of the text too; of WordPiece it stands for a whole word
    ends = (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.sep_token_id)
    if unknown is not None and unknown not in ends and marking != "wordpiece":
        initial[unknown] = False
    return Boundaries(marking, initial, punctuation)


def _find_marking(names: list[str]) -> str:
    """Return the kind of mark that most tokens carry."""
    counts = {
        "byte-level": sum(n[:1] == "Ġ" for n in names),
        "sentencepiece": sum(n[:1] == "▁" for n in names),
        "wordpiece": sum(n[:2] == "##" and len(n) > 2 for n in names),
        "end-of-word": sum(n.endswith("</w>") for n in names),
        "space": sum(n[:1].isspace() for n in names),
    }
    marking = max(counts, key=lambda k: counts[k])
    return marking if counts[marking] else "none"


def _read_piece(name: str, marking: str) -> str:
    """Return the text that a token stands for, with the space before it."""
    if marking == "byte-level" and all(c in _BYTES for c in name):
        return bytes(_BYTES[c] for c in name).decode("utf-8", errors="ignore")
    if marking == "sentencepiece":
        return " " if name in _SPACE_BYTES else name.replace("▁", " ")
    return name.removeprefix("##") if marking == "wordpiece" else name


def _is_sign(character: str) -> bool:
    """Tell whether a character is punctuation or a symbol that does not stand within words."""
    if not character or character in _WITHIN:
        return False
    return unicodedata.category(character)[0] in "PS"


def _make_byte_table() -> dict[str, int]:
    """Return the byte behind each character of byte-level vocabularies (as GPT-2 chose them)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(rest)}


_BYTES = _make_byte_table()
