"""How tokens are chosen: options, draws, and what does not go with them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import torch

from netphys._check import check_positive, check_type, suggest
from netphys.recording.show import step_through
from netphys.recording.subject import Subject
from netphys.recording.tokens import Sampled
from netphys.recording.twins import run_seeded


@dataclass(frozen=True)
class Generation:
    """How tokens are generated.

    Parameters
    ----------
    max_new_tokens : int
        Most tokens per trial.
    greedy : bool
        Take the likeliest token; nothing is drawn.
    temperature : float
        Logits are divided by it before drawing.
    top_k : int or None
        Draw among the likeliest `top_k` tokens.
    top_p : float or None
        Draw among the likeliest tokens that together have this probability.
    eos : tuple of int or None
        Tokens that end a trial; None for those of the model.
    seed : int
        Seeds the draws, with the trials of each batch.
    """

    max_new_tokens: int
    greedy: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    eos: tuple[int, ...] | None = None
    seed: int = 0

    def to_dict(self) -> dict:
        """Return the options as JSON would give them back.

        Returns
        -------
        options : dict
            JSON-ready.
        """
        options = dataclasses.asdict(self)
        return options | {"eos": None if self.eos is None else list(self.eos)}


def make_generation(generate: Mapping[str, object] | None) -> Generation | None:
    """Check the options of generation.

    Parameters
    ----------
    generate : dict or None
        As for `record`.

    Returns
    -------
    generation : Generation or None
        None where nothing is generated.

    Raises
    ------
    TypeError, ValueError
        If an option is unknown or not possible.
    """
    if generate is None:
        return None
    check_type("generate", generate, Mapping, "a dict such as {'max_new_tokens': 32}")
    known = [f.name for f in dataclasses.fields(Generation)]
    for name in generate:
        if name not in known:
            raise ValueError(
                f"generate: {name!r} is unknown.{suggest(name, known)} It takes {', '.join(known)}."
            )
    if "max_new_tokens" not in generate:
        raise ValueError("generate needs 'max_new_tokens': the most tokens per trial.")
    eos = generate.get("eos")
    if eos is not None:
        eos = (eos,) if isinstance(eos, int) else tuple(eos)
        for token in eos:
            check_type("generate: eos", token, int, "numbers of tokens")
    made = Generation(**{**generate, "eos": eos})
    check_positive("generate: max_new_tokens", made.max_new_tokens)
    check_type("generate: seed", made.seed, int, "a whole number")
    check_type("generate: greedy", made.greedy, bool, "True or False")
    check_type("generate: temperature", made.temperature, (int, float), "a number above 0")
    if not 0 < made.temperature < math.inf:
        raise ValueError(
            f"generate: temperature={made.temperature} must be above 0. For the likeliest token "
            "give 'greedy': True."
        )
    if made.top_k is not None:
        check_positive("generate: top_k", made.top_k)
    if made.top_p is not None:
        check_type("generate: top_p", made.top_p, (int, float), "a probability")
        if not 0 < made.top_p <= 1:
            raise ValueError(f"generate: top_p={made.top_p} must be above 0 and at most 1.")
    if made.greedy and (made.temperature, made.top_k, made.top_p) != (1.0, None, None):
        raise ValueError(
            "generate: with greedy=True temperature, top_k and top_p do nothing. Leave them out."
        )
    return made


def check_variability(table: pd.DataFrame, generation: Generation | None, compile: object) -> None:
    """Refuse repeats that would not differ, and generation that could not be shown again.

    Parameters
    ----------
    table : DataFrame
        Of the stimuli.
    generation : Generation or None
        How tokens are chosen.
    compile : bool or dict
        Whether the model is compiled.

    Raises
    ------
    ValueError
        With what to do.
    """
    kinds = set(table["variability"]) if "variability" in table else set()
    if "sampling" in kinds and (generation is None or generation.greedy):
        raise ValueError(
            "variability 'sampling' needs generate= without 'greedy': otherwise the repeats do not "
            "differ. Give generate={'max_new_tokens': ...}."
        )
    if generation is None:
        return
    if "dropout" in kinds:
        raise ValueError(
            "generate= does not go with repeats by dropout. Make repeats by 'sampling', or record "
            "without generate=."
        )
    if compile is not False:
        raise ValueError(
            "generate= does not go with compile=: a compiled model gives other bits than the pass "
            "that the tokens were drawn in. Leave compile out."
        )


def sample(subject: Subject, ids: torch.Tensor, generation: Generation, seed: int) -> Sampled:
    """Generate tokens to a batch of prompts of equal length.

    Parameters
    ----------
    subject : Subject
        A causal language model.
    ids : Tensor of int64, shape (n_trials, n_tokens)
        The prompts.
    generation : Generation
        How tokens are chosen.
    seed : int
        For torch's generators; their state is put back afterwards.

    Returns
    -------
    sampled : Sampled
        Tokens of each trial up to and with the one that ends it.
    """
    ends = torch.tensor(find_ends(subject, generation), dtype=torch.int64, device=ids.device)
    pad = getattr(subject.config, "pad_token_id", None)
    pad = pad if pad is not None else (int(ends[0]) if len(ends) else 0)
    warpers = _make_warpers(generation)
    going = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
    taken: list[torch.Tensor] = []
    lengths = torch.zeros(len(ids), dtype=torch.int64, device=ids.device)

    def choose(logits: torch.Tensor) -> torch.Tensor | None:
        nonlocal going
        scores = logits.to(copy=True, dtype=torch.float32)
        for warp in warpers:
            scores = warp(None, scores)
        if generation.greedy:
            token = scores.argmax(dim=-1)
        else:
            token = torch.multinomial(scores.softmax(dim=-1), num_samples=1).squeeze(1)
        taken.append(torch.where(going, token, pad))
        lengths.add_(going)
        going = going & ~torch.isin(token, ends)
        done = len(taken) == generation.max_new_tokens or not going.any()
        return None if done else taken[-1][:, None]

    digest = run_seeded(lambda: step_through(subject.model, ids, choose), seed)
    tokens = torch.stack(taken, dim=1).tolist()
    return Sampled(
        [t[:n] for t, n in zip(tokens, lengths.tolist(), strict=True)],
        ["limit" if g else "eos" for g in going.tolist()],
        digest,
        int(pad),
    )


def find_ends(subject: Subject, generation: Generation) -> list[int]:
    """Return the tokens that end a trial.

    Parameters
    ----------
    subject : Subject
        Whose generation configuration is asked.
    generation : Generation
        May name them.

    Returns
    -------
    tokens : list of int
        Empty if only the limit ends a trial.
    """
    if generation.eos is not None:
        return list(generation.eos)
    given = None
    for config in (getattr(subject.model, "generation_config", None), subject.config):
        given = getattr(config, "eos_token_id", None) if given is None else given
    return [] if given is None else [given] if isinstance(given, int) else list(given)


def _make_warpers(generation: Generation) -> list:
    from transformers.generation import logits_process as processors

    made = []
    if generation.temperature != 1.0:
        made.append(processors.TemperatureLogitsWarper(float(generation.temperature)))
    if generation.top_k is not None:
        made.append(processors.TopKLogitsWarper(generation.top_k))
    if generation.top_p is not None and generation.top_p < 1:
        made.append(processors.TopPLogitsWarper(float(generation.top_p)))
    return made
