"""Generation: tokens are sampled first, and shown again, step by step, while they are recorded.

A session file is complete in structure before its first sample, but how many tokens a subject will
generate is known only afterwards. So every planned batch is sampled once without hooks, keeping
tokens alone; the file is made with the exact lengths; then the same prompts and tokens pass the
same model in the same steps, with the same cache. The activations are those of the sampling pass,
bit for bit, which a hash of the logits of every step confirms while recording.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from netphys.data._files import FileLock
from netphys.data.stimuli import Stimuli
from netphys.recording.generate import Generation, sample
from netphys.recording.present import make_plan, present
from netphys.recording.presentation import Decoding, Presentation
from netphys.recording.show import name_batch
from netphys.recording.subject import Subject
from netphys.recording.tokens import Sampled, TokenLog, load_sampled
from netphys.recording.variability import find_draw_seeds, join_seeds

_COLUMNS = (
    "n_prompt_tokens",
    "n_generated_tokens",
    "stop_reason",
    "generated_token_ids",
    "generated_text",
)


def present_sampled(
    subject: Subject,
    stimuli: Stimuli,
    generation: Generation,
    path: Path,
    *,
    batch_size: int,
    resume: bool,
    progress: bool,
) -> Presentation:
    """Sample what a subject generates to every prompt, and make both ready to be recorded.

    Parameters
    ----------
    subject : Subject
        A causal language model, in eval mode.
    stimuli : Stimuli
        Texts or token ids: the prompts.
    generation : Generation
        How tokens are chosen.
    path : Path
        The session file: what it or its log of tokens holds already is not sampled again.
    batch_size : int
        Most trials in a batch.
    resume : bool
        Whether the file is to be gone on with.
    progress : bool
        Show a progress bar.

    Returns
    -------
    presentation : Presentation
        With `decoding`; samples of the phases "prefill" and "decode".

    Raises
    ------
    ValueError
        If the subject cannot generate, or a prompt leaves too little room in its context.
    """
    check_generates(subject)
    if taken := [c for c in _COLUMNS if c in stimuli.table]:
        raise ValueError(f"stimuli has a column {taken[0]!r}, which generation uses. Rename it.")
    prompts = present(subject, stimuli)
    _check_room(subject, stimuli, prompts, generation)
    plan = make_plan(prompts.keys, batch_size)
    drawn = find_draw_seeds(stimuli.table, "sampling")
    key = {
        "options": generation.to_dict(),
        "prompts_sha256": prompts.compute_hash(),
        "stimuli_sha256": stimuli.compute_hash(),
        "weights_sha256": subject.compute_hash(),
        "batch_size": batch_size,
    }
    sampled = load_sampled(path, key) if resume and path.exists() else {}
    if not sampled:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            FileLock(path),
            TokenLog(path, key) as log,
            tqdm(plan, desc="sampling", unit="batch", disable=not progress, leave=False) as bar,
        ):
            for rows in bar:
                name = name_batch(rows)
                if name not in log.batches:
                    labels = rows if drawn is None else drawn[rows]
                    seed = join_seeds([generation.seed, *labels])
                    ids = prompts.make_inputs(rows)[1]["input_ids"]
                    log.add(name, sample(subject, ids, generation, seed))
            sampled = log.batches
    return _join(subject, stimuli, prompts, plan, sampled, key)


def check_generates(subject: Subject) -> None:
    """Refuse a subject that does not generate token by token with a cache.

    Parameters
    ----------
    subject : Subject
        Any.

    Raises
    ------
    ValueError
        With the reason.
    """
    model, reason = subject.model, ""
    if subject.config is None or subject.input_name != "input_ids" or subject.input_fn is not None:
        reason = "is no language model of transformers that takes token ids alone"
    elif getattr(subject.config, "is_encoder_decoder", False):
        reason = "has an encoder and a decoder"
    elif not (hasattr(model, "can_generate") and model.can_generate()):
        reason = "does not generate (an encoder, or a model without a language head)"
    elif "past_key_values" not in inspect.signature(model.forward).parameters:
        reason = "keeps no cache of keys and values"
    if reason:
        raise ValueError(
            f"generate: {subject.name!r} ({type(model).__name__}) {reason}. Give a causal language "
            "model such as GPT-2 or Llama with its head."
        )


def _check_room(
    subject: Subject, stimuli: Stimuli, prompts: Presentation, generation: Generation
) -> None:
    limit = subject.max_length
    longest = int(np.argmax(prompts.n_shown))
    n = int(prompts.n_shown[longest])
    if limit is not None and n > limit - generation.max_new_tokens:
        raise ValueError(
            f"stimulus {stimuli.table['stimulus_id'].iloc[longest]!r} has {n} tokens; with "
            f"max_new_tokens={generation.max_new_tokens} {subject.name!r} takes prompts of at most "
            f"{max(limit - generation.max_new_tokens, 0)}. Shorten it, or generate less."
        )


def _join(
    subject: Subject,
    stimuli: Stimuli,
    prompts: Presentation,
    plan: list[list[int]],
    sampled: Mapping[str, Sampled],
    key: Mapping[str, object],
) -> Presentation:
    """Return prompts and generated tokens as one presentation."""
    n = len(prompts.n_shown)
    shown: list[np.ndarray] = [np.zeros(0, np.int64)] * n
    recorded, tables = [np.zeros(0, bool)] * n, [{}] * n
    tokens, stops = [[]] * n, [""] * n
    for rows in plan:
        batch = sampled[name_batch(rows)]
        prompt = prompts.make_inputs(rows)[1]["input_ids"].cpu().numpy()
        n_steps = max(map(len, batch.tokens)) - 1
        for i, row in enumerate(rows):
            own = batch.tokens[i][:-1]  # the last one is shown only while other trials go on
            filled = (batch.tokens[i] + [batch.pad] * n_steps)[:n_steps]
            shown[row] = np.concatenate([prompt[i], np.array(filled, np.int64)])
            before = np.ones(len(prompt[i]), bool)
            before = before if prompts.recorded is None else prompts.recorded[row]
            recorded[row] = np.concatenate([before, np.arange(n_steps) < len(own)])
            tables[row] = _extend(prompts.tables[row], own, subject, is_text=stimuli.kind == "text")
            tokens[row], stops[row] = batch.tokens[i], batch.stops[i]
    columns = {
        "n_prompt_tokens": prompts.n_shown.astype(np.int64),
        "n_generated_tokens": np.array([len(t) for t in tokens], np.int64),
        "stop_reason": np.array(stops, object),
        "generated_token_ids": np.array([" ".join(map(str, t)) for t in tokens], object),
    }
    if subject.tokenizer is not None:
        texts = [_clean(subject.tokenizer.decode(t, skip_special_tokens=True)) for t in tokens]
        columns["generated_text"] = np.array(texts, object)
    if not key["options"]["greedy"] and "variability" not in stimuli.table:
        columns["variability"] = np.full(n, "sampling", object)
    digests = {name_batch(rows): sampled[name_batch(rows)].digest for rows in plan}
    facts = {
        **key,
        "logits_sha256": list(digests.values()),
        "pad": next(iter(sampled.values())).pad,
    }

    def make_inputs(rows):
        batch = torch.from_numpy(np.stack([shown[r] for r in rows])).to(subject.device)
        return (), {"input_ids": batch, "attention_mask": torch.ones_like(batch)}

    return dataclasses.replace(
        prompts,
        n_shown=np.array([len(s) for s in shown]),
        recorded=recorded,
        tables=tables,
        make_inputs=make_inputs,
        decoding=Decoding(columns["n_prompt_tokens"], digests, columns, facts),
    )


def _extend(
    table: Mapping[str, np.ndarray], own: list[int], subject: Subject, *, is_text: bool
) -> dict[str, np.ndarray]:
    """Return a prompt's columns of the samples table with those of its generated tokens."""
    n_before, n = len(table["token_id"]), len(own)
    blank = {"onset": np.nan, "word": -1, "char_begin": -1, "char_end": -1, "special": False}
    more = {name: np.full(n, value) for name, value in blank.items()}
    more["token_id"] = np.array(own, np.int64)
    if "text" in table:
        names = subject.tokenizer.convert_ids_to_tokens(own)
        pieces = [subject.tokenizer.decode([t]).strip() for t in own] if is_text else names
        found = [_clean(str(p or name)) for p, name in zip(pieces, names, strict=True)]
        more["text"] = np.array(found, object)
    joined = {name: np.concatenate([v, more[name]]) for name, v in table.items()}
    return joined | {"phase": np.array(["prefill"] * n_before + ["decode"] * n, object)}


def _clean(text: str) -> str:
    """Return a text without NUL, which ends a text in HDF5."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
