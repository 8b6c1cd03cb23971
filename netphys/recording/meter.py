"""Scoring of the words and tokens of a batch from the logits of a language model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from netphys._check import check_option, check_positive, check_type
from netphys.recording.boundaries import Boundaries, find_boundaries
from netphys.recording.capture import hold_still
from netphys.recording.presentation import Presentation
from netphys.recording.subject import Subject

UNITS = ("surprisal", "entropy", "rank")
PER = ("word", "token")
KINDS = ("causal", "masked")
_CHUNK_BYTES = 2**24  # of one matrix (position, token of the vocabulary)


@dataclass(frozen=True)
class WordScores:
    """Surprisal, entropy and rank of the words (or tokens) of a batch, by trial and position.

    Parameters
    ----------
    trial : ndarray of int64, shape (n_words,)
        Row of the batch.
    word : ndarray of int64, shape (n_words,)
        Number of the word within its trial; of a token -1 if it belongs to none.
    position : ndarray of int64, shape (n_words,)
        Place of the first token in what was shown, from 0.
    n_tokens : ndarray of int64, shape (n_words,)
        Tokens of the word.
    values : ndarray of float64, shape (n_words, 3)
        Columns as in `UNITS`: bits, bits, and 1 for the most probable token.
    """

    trial: np.ndarray
    word: np.ndarray
    position: np.ndarray
    n_tokens: np.ndarray
    values: np.ndarray


class SurprisalMeter:
    """Scores the words of batches that a language model is shown.

    Parameters
    ----------
    subject : Subject
        A causal or masked language model with its output layer.
    per : str
        "word": sub-tokens summed; "token": each token that is recorded.
    punctuation : str
        "attached" or "separate": whether signs belong to the words that they touch.
    batch_size : int
        Most sequences in one of the extra passes that a masked model needs.
    kind : str, optional
        "causal" or "masked"; by custom from the model's class.

    Raises
    ------
    ValueError
        If the subject gives no logits over tokens, or has no tokenizer that finds words.

    Notes
    -----
    See `compute_surprisal` for what the numbers mean.
    """

    def __init__(
        self,
        subject: Subject,
        *,
        per: str = "word",
        punctuation: str = "attached",
        batch_size: int = 8,
        kind: str | None = None,
    ):
        check_type("subject", subject, Subject, "what load_subject returns")
        check_option("per", per, PER)
        check_positive("batch_size", batch_size)
        self.subject, self.per, self.batch_size = subject, per, batch_size
        self.masked = _find_kind(subject, kind) == "masked"
        self.boundaries: Boundaries | None = None
        self._special = set(getattr(subject.tokenizer, "all_special_ids", ()))
        if per == "word" and not self.masked:
            if subject.tokenizer is None:
                raise ValueError(
                    f"{subject.name!r} has no tokenizer, so the ends of words are unknown. Give "
                    "load_subject(..., tokenizer=), or per='token'."
                )
            self.boundaries = find_boundaries(subject.tokenizer, punctuation=punctuation)

    @property
    def measure(self) -> str:
        """What the surprisal is the negative logarithm of: "probability" or "pseudo-likelihood"."""
        return "pseudo-likelihood" if self.masked else "probability"

    def describe(self) -> dict:
        """Return what is said of the numbers in a file.

        Returns
        -------
        facts : dict
            JSON-ready.
        """
        facts = {"measure": self.measure, "per": self.per, "unit": "bit", "units": list(UNITS)}
        if self.masked:
            facts["scheme"] = "PLL-word-l2r"
        if self.boundaries is not None:
            facts |= self.boundaries.describe()
        return facts

    def score(
        self,
        ids: torch.Tensor | np.ndarray,
        word: np.ndarray,
        logits: torch.Tensor | None = None,
        *,
        recorded: np.ndarray | None = None,
    ) -> WordScores:
        """Score a batch of equally long sequences.

        Parameters
        ----------
        ids : array of int64, shape (n_trials, n_positions)
            Tokens as they were shown.
        word : ndarray of int64, shape (n_trials, n_positions)
            Word of each token within its trial; -1: none (special tokens, context).
        logits : Tensor, shape (n_trials, n_positions, n_vocabulary), optional
            What the model gave for these tokens; a causal model needs them, a masked one is shown
            the sequences again with tokens masked.
        recorded : ndarray of bool, shape (n_trials, n_positions), optional
            Which tokens count for ``per="token"``; all if left out.

        Returns
        -------
        scores : WordScores
            By trial, then by position.

        Raises
        ------
        ValueError
            If logits are missing or of another shape.
        """
        ids = torch.as_tensor(ids).long()
        groups = self._group(np.asarray(word), recorded)
        if self.masked:
            values = self._score_masked(ids, np.asarray(word), groups)
        else:
            _check_logits(logits, ids)
            values = self._score_causal(ids, logits, groups)
        trial, number, position, count = (
            np.array([g[i] for g in groups], np.int64).reshape(-1) for i in range(4)
        )
        return WordScores(trial, number, position, count, values)

    def score_batch(
        self,
        presentation: Presentation,
        rows: Sequence[int],
        logits: torch.Tensor | None = None,
    ) -> WordScores:
        """Score one planned batch of a recording.

        Parameters
        ----------
        presentation : Presentation
            Of the run.
        rows : sequence of int
            Trials of the batch.
        logits : Tensor, shape (n_trials, n_positions, n_vocabulary), optional
            As for `score`.

        Returns
        -------
        scores : WordScores
            `trial` counts within the batch.
        """
        args, kwargs = presentation.make_inputs(rows)
        ids = kwargs.get("input_ids", args[0] if args else None)
        if not isinstance(ids, torch.Tensor) or ids.is_floating_point() or ids.ndim != 2:
            raise ValueError(
                f"{self.subject.name!r} is not shown token ids, so it has no surprisal. Leave it "
                "out for this subject."
            )
        recorded = presentation.mask(rows)
        recorded = np.ones(tuple(ids.shape), bool) if recorded is None else recorded
        word = np.full(tuple(ids.shape), -1, np.int64)
        for i, row in enumerate(rows):
            table = presentation.tables[row]
            if "word" not in table and self.per == "word":
                raise ValueError("stimuli of token ids have no words. Give texts, or per='token'.")
            word[i, recorded[i]] = table.get("word", -1)
        return self.score(ids, word, logits, recorded=recorded)

    def _group(
        self, word: np.ndarray, recorded: np.ndarray | None
    ) -> list[tuple[int, int, int, int, np.ndarray]]:
        """Return trial, word, first position, number and positions of the tokens of each item."""
        found = []
        for trial, words in enumerate(word):
            if self.per == "token":
                kept = np.arange(len(words)) if recorded is None else recorded[trial].nonzero()[0]
                found += [(trial, int(words[p]), int(p), 1, np.array([p])) for p in kept]
                continue
            at = np.flatnonzero(words >= 0)
            order = np.argsort(words[at], kind="stable")
            cuts = np.flatnonzero(np.diff(words[at][order])) + 1
            runs = [np.sort(r) for r in np.split(at[order], cuts) if len(r)]
            runs.sort(key=lambda r: r[0])
            found += [(trial, int(words[r[0]]), int(r[0]), len(r), r) for r in runs]
        return found

    def _score_causal(self, ids: torch.Tensor, logits: torch.Tensor, groups: list) -> np.ndarray:
        initial = None if self.boundaries is None else self.boundaries.initial
        n_trials, length = ids.shape
        target = torch.cat([ids[:, 1:], ids[:, :1]], 1).reshape(-1)  # the last has none: any
        facts = compute_token_facts(logits.reshape(n_trials * length, -1), target, initial)
        after = {k: v.reshape(n_trials, length) for k, v in facts.items()}
        values = np.full((len(groups), len(UNITS)), np.nan)
        tokens = ids.cpu().numpy()
        for i, (trial, _, first, _, positions) in enumerate(groups):
            if first == 0:
                continue  # nothing precedes it
            bits = after["surprisal"][trial, positions - 1].sum()
            if initial is not None and initial.any():
                own = {k: after[k][trial] for k in ("boundary", "inside")}
                bits += self._correct(tokens[trial], positions, own)
            entropy, rank = (after[k][trial, first - 1] for k in ("entropy", "rank"))
            values[i] = bits, entropy, rank
        return values

    def _correct(self, tokens: np.ndarray, positions: np.ndarray, after: dict) -> float:
        """Return the bits to add for the space before a word, which belongs to the one before it.

        At the end of a word the mass of all that may follow a finished word counts to it; at the
        start that same mass is what was known before, so it is divided out.
        """
        initial, first, last = self.boundaries.initial, positions[0], positions[-1]
        bits = 0.0
        if initial[tokens[first]]:
            bits -= after["boundary"][first - 1]
        elif tokens[first - 1] in self._special:  # the text begins here, without a space
            bits -= after["inside"][first - 1]
        if last + 1 == len(tokens) or initial[tokens[last + 1]]:
            bits += after["boundary"][last]
        return bits

    def _score_masked(self, ids: torch.Tensor, word: np.ndarray, groups: list) -> np.ndarray:
        """Return pseudo-likelihoods: each token with it and the rest of its word masked."""
        mask = self.subject.tokenizer.mask_token_id
        tokens = ids.cpu().numpy()
        jobs = [
            (i, trial, p)
            for i, (trial, *_, ps) in enumerate(groups)
            for p in ps
            if tokens[trial, p] not in self._special  # of these nothing is asked
        ]
        values = np.full((len(groups), len(UNITS)), np.nan)
        values[[i for i, *_ in jobs], 0] = 0
        device = self.subject.device
        with hold_still(self.subject.model):
            for begin in range(0, len(jobs), self.batch_size):
                part = jobs[begin : begin + self.batch_size]
                shown = ids[[trial for _, trial, _ in part]].clone()
                for row, (_, trial, p) in enumerate(part):
                    shown[row, p] = mask
                    later = (word[trial] == word[trial, p]) & (word[trial] >= 0)
                    shown[row, torch.from_numpy(np.flatnonzero(later[p:]) + p)] = mask
                at = torch.tensor([p for *_, p in part], device=device)
                output = self.subject.model(input_ids=shown.to(device))
                logits = getattr(output, "logits", output)
                logits = logits[torch.arange(len(part), device=device), at]
                target = ids[[t for _, t, _ in part], [p for *_, p in part]]
                facts = compute_token_facts(logits, target, None)
                for row, (i, _, p) in enumerate(part):
                    values[i, 0] += facts["surprisal"][row]
                    if p == groups[i][2]:
                        values[i, 1:] = facts["entropy"][row], facts["rank"][row]
        return values


def compute_token_facts(
    logits: torch.Tensor, target: torch.Tensor, initial: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Compute surprisal, entropy and rank from logits, a few rows at a time.

    Parameters
    ----------
    logits : Tensor, shape (n, n_vocabulary)
        Any floating type; 16-bit types are read as float32.
    target : Tensor of int64, shape (n,)
        Token that followed.
    initial : ndarray of bool, shape (n_tokens,), or None
        Word-initial tokens; tokens beyond the tokenizer's are none.

    Returns
    -------
    facts : dict of str to ndarray of float64, shape (n,)
        "surprisal", "entropy" (bits), "rank", and with `initial` "boundary" and "inside":
        -log2 of the mass of word-initial and of all other tokens.
    """
    n, size = logits.shape
    kind = torch.float64 if logits.dtype == torch.float64 else torch.float32
    device = logits.device
    marked = torch.zeros(size, dtype=kind, device=device)
    if initial is not None:
        first = torch.from_numpy(initial[:size]).to(device)
        marked[: len(first)] = first.to(kind)
    found = torch.empty((n, 5), dtype=torch.float64, device=device)
    step = max(1, _CHUNK_BYTES // (size * (8 if kind == torch.float64 else 4)))
    target = target.to(device)
    for begin in range(0, n, step):
        x = logits[begin : begin + step].to(kind)
        chosen = x.gather(1, target[begin : begin + step, None])
        rank = 1 + (x > chosen).sum(1)
        x = x - x.amax(1, keepdim=True)
        p = x.exp()
        total = p.sum(1).double()
        spread = (p * x.clamp(min=torch.finfo(kind).min)).sum(1).double()  # 0 * -inf is 0
        log_total = total.log()
        chosen = x.gather(1, target[begin : begin + step, None])[:, 0].double()
        part = found[begin : begin + step]
        part[:, 0] = log_total - chosen
        part[:, 1] = log_total - spread / total
        part[:, 2] = torch.where(torch.isnan(part[:, 0]), torch.nan, rank.double())
        if initial is not None:
            part[:, 3] = log_total - (p * marked).sum(1).double().log()
            part[:, 4] = log_total - (p * (1 - marked)).sum(1).double().log()
    found[:, [0, 1, 3, 4]] /= math.log(2)
    names = ("surprisal", "entropy", "rank", "boundary", "inside")
    kept = names if initial is not None else names[:3]
    return {k: found[:, i].cpu().numpy() for i, k in enumerate(kept)}


def _find_kind(subject: Subject, kind: str | None) -> str:
    """Return whether a model predicts the next token or masked ones."""
    from transformers.models.auto import modeling_auto as auto

    name = type(subject.model).__name__
    if kind is not None:
        check_option("kind", kind, KINDS)
    elif getattr(subject.config, "is_encoder_decoder", False):
        raise ValueError(
            f"{subject.name!r} ({name}) has an encoder and a decoder: its probabilities of tokens "
            "are those of a second text. Load a causal or masked language model."
        )
    elif name in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        kind = "causal"
    elif name in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES.values():
        kind = "masked"
    else:
        raise ValueError(
            f"{subject.name!r} ({name}) is not known to give probabilities of tokens. Load a "
            "causal or masked language model with its output layer, such as GPT2LMHeadModel or "
            "BertForMaskedLM; for a model of your own that gives logits say kind='causal'."
        )
    if kind == "masked" and getattr(subject.tokenizer, "mask_token_id", None) is None:
        raise ValueError(
            f"{subject.name!r} is a masked language model, and no tokenizer gives its mask token. "
            "Give load_subject(..., tokenizer=)."
        )
    return kind


def _check_logits(logits: torch.Tensor | None, ids: torch.Tensor) -> None:
    if logits is None:
        raise ValueError("logits=None: a causal model is scored from the logits of its batch.")
    if logits.ndim != 3 or tuple(logits.shape[:2]) != tuple(ids.shape):
        raise ValueError(
            f"logits has shape {tuple(logits.shape)} for token ids of shape {tuple(ids.shape)}. "
            "Give (trial, position, vocabulary)."
        )
