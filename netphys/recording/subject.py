"""Subjects: a network with fixed weights, how it is loaded, and what can be recorded from it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from netphys._check import check_option, check_type, suggest
from netphys._options import INITS, WEIGHT_DTYPES
from netphys.recording.builtin import (
    DIGITS,
    PREFIX,
    WEIGHT_FREE,
    check_builtin,
    check_trained,
    find_builtin,
    list_builtins,
    make_weight_free,
    split_seed,
)
from netphys.recording.devices import choose_device, choose_spread, describe_spread, read_weight
from netphys.recording.digits import load_digits
from netphys.recording.sites import find_sites
from netphys.recording.twins import make_random, make_shuffled, run_seeded

if TYPE_CHECKING:
    from transformers import (
        BaseImageProcessor,
        FeatureExtractionMixin,
        PreTrainedConfig,
        PreTrainedTokenizerBase,
    )

_PROCESSORS = {
    "pixel_values": "AutoImageProcessor",
    "input_values": "AutoFeatureExtractor",
    "input_features": "AutoFeatureExtractor",
}
DTYPES = {name: getattr(torch, name) for name in WEIGHT_DTYPES}


class Subject:
    """One model with fixed weights, treated as an experimental subject.

    Made by `load_subject`. The model is never changed: recording leaves its mode, gradients and
    hooks as they were.

    Parameters
    ----------
    model : Module
        The network.
    name : str
        How it was named.
    init : str
        "trained", "random" or "shuffled".
    seed : int
        Seed of an untrained twin.
    tokenizer : tokenizer or None
        Fast tokenizer of transformers, for texts.
    processor : image processor, feature extractor or None
        Of transformers, for images or sounds.
    input_fn : callable or None
        Turns a list of items into the model's input.
    source : dict
        Where the weights come from, for the provenance.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        name: str,
        init: str = "trained",
        seed: int = 0,
        tokenizer: PreTrainedTokenizerBase | None = None,
        processor: BaseImageProcessor | FeatureExtractionMixin | None = None,
        input_fn: Callable | None = None,
        source: dict | None = None,
    ):
        self.model, self.name, self.init, self.seed = model, name, init, seed
        self.tokenizer, self.processor, self.input_fn = tokenizer, processor, input_fn
        self._source = source or {}

    @property
    def config(self) -> PreTrainedConfig | None:
        """The model's configuration; None for a model that is not of transformers."""
        config = getattr(self.model, "config", None)
        return config if hasattr(config, "to_json_string") else None

    @property
    def input_name(self) -> str | None:
        """Name of the main input of a transformers model; None for any other."""
        return getattr(self.model, "main_input_name", None) if self.config is not None else None

    @property
    def device(self) -> torch.device:
        """Device of the first weight."""
        return next((t for t in self._tensors() if not t.is_meta), torch.zeros(0)).device

    @property
    def n_slices(self) -> int:
        """Number of processes that hold a slice of the weights each; 1: this one holds all."""
        return self._source.get("tp_size", 1)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the first floating-point weight."""
        return next((t.dtype for t in self._tensors() if t.is_floating_point()), torch.float32)

    @property
    def n_parameters(self) -> int:
        """Number of weights, tied ones counted once."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def max_length(self) -> int | None:
        """Longest sequence in tokens that the model takes; None if there is no limit."""
        text = getattr(self.config, "text_config", self.config)  # of two towers, the one that reads
        limits = [getattr(text, "max_position_embeddings", None)]
        if limits[0] and "roberta" in self.config.model_type:  # positions start after the padding
            limits[0] -= (self.config.pad_token_id or 0) + 1
        limits.append(getattr(self.tokenizer, "model_max_length", None))
        return min((n for n in limits if isinstance(n, int) and 0 < n < 10**9), default=None)

    def sites(self, *, all_modules: bool = False) -> pd.DataFrame:
        """List where this subject can be recorded, with the number of units.

        Parameters
        ----------
        all_modules : bool
            Also list every module that is not one of the standard sites; a model without any is
            listed in full.

        Returns
        -------
        table : DataFrame
            Indexed by site: kind, layer, and the shape of one sample (from one discarded forward
            pass on a made-up item; "" where it cannot be known without stimuli).
        """
        from netphys.recording.probe import probe_shapes

        standard = find_sites(self.model)
        known = {s.module for s in standard if s.side == "out"}
        rows = [(s.name, s.kind, s.layer) for s in standard]
        if all_modules or not standard:
            rows += [
                (n, "module", -1) for n, _ in self.model.named_modules() if n and n not in known
            ]
        shapes = probe_shapes(self, [r[0] for r in rows])
        table = pd.DataFrame(rows, columns=["site", "kind", "layer"])
        table["shape"] = [
            " x ".join(map(str, shapes[s])) if s in shapes else "" for s in table["site"]
        ]
        return table.set_index("site")

    def compute_hash(self) -> str:
        """Return the SHA-256 of all weights and buffers, with their names, types and shapes.

        Returns
        -------
        digest : str
            64 hexadecimal digits.
        """
        digest = hashlib.sha256()
        for name, tensor in self.model.state_dict().items():
            if not isinstance(tensor, torch.Tensor):  # extra state of a module
                digest.update(f"{name} {tensor!r}\n".encode())
                continue
            digest.update(f"{name} ".encode())
            add_tensor(digest, read_weight(self.model, name, tensor))
        return digest.hexdigest()

    def describe(self) -> dict:
        """Return what a session file says of this subject.

        Returns
        -------
        facts : dict
            JSON-ready.
        """
        facts = {
            "name": self.name,
            "init": self.init,
            "seed": self.seed,
            "class": type(self.model).__name__,
            "n_parameters": self.n_parameters,
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": self.device.type,
            "weights_sha256": self.compute_hash(),
            "tokenizer": type(self.tokenizer).__name__ if self.tokenizer is not None else None,
            **self._source,
        }
        if hasattr(self.config, "to_json_string"):
            facts["config"] = json.loads(self.config.to_json_string(use_diff=True))
        return facts

    def _tensors(self):
        yield from self.model.parameters()
        yield from self.model.buffers()

    def __repr__(self) -> str:
        seed = f", seed {self.seed}" if self.init != "trained" else ""
        return (
            f"<Subject {self.name!r}: {type(self.model).__name__}, {self.n_parameters:,} "
            f"parameters, {self.init}{seed}, {str(self.dtype).removeprefix('torch.')} on "
            f"{self.device.type}>"
        )


def add_tensor(digest: hashlib._Hash, tensor: torch.Tensor) -> None:
    """Add a tensor's type, shape and values to a hash.

    Parameters
    ----------
    digest : hash object
        Changed in place.
    tensor : Tensor
        On any device.
    """
    digest.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
    flat = tensor.detach().contiguous().cpu().reshape(-1)
    digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")


def load_subject(
    name: str | os.PathLike | torch.nn.Module,
    *,
    init: str = "trained",
    seed: int = 0,
    dtype: str | None = None,
    device: str = "cpu",
    device_map: str | Mapping | None = None,
    tp_plan: str | Mapping | None = None,
    input_fn: Callable | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    processor: BaseImageProcessor | FeatureExtractionMixin | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Subject:
    """Load a network as a subject, or make its untrained twin.

    Parameters
    ----------
    name : str, path-like or Module
        Hugging Face id, folder with a transformers model, any module, or a built-in subject:
        ``"builtin:language"`` (texts), ``"builtin:digits/0"`` to ``"builtin:digits/9"`` (images;
        one network trained from ten seeds), ``"builtin:pixels"`` and ``"builtin:gabor"`` (images;
        made by code, without weights), ``"builtin:resnet18"`` (images; with ``init="random"``
        only), ``"builtin:minilm"`` (texts; weights from the extra ``minilm``).
    init : str
        "trained": the weights as they are; "random": drawn anew as before training; "shuffled": the
        values of each weight tensor permuted within it.
    seed : int
        Seed of a twin.
    dtype : str, optional
        "float32", "float16" or "bfloat16"; as stored if left out.
    device : str
        Where to run, such as "cpu" or "cuda"; of several processes that torchrun started on a
        machine, each takes the card of its number with "cuda".
    device_map : str or dict, optional
        For a trained model that no card holds: "auto", or where each module goes (a card, "cpu" or
        "disk"); needs the extra ``sharded``.
    tp_plan : str or dict, optional
        For the same in several processes (torchrun): "auto", or how transformers divides each
        module; every process holds a slice of each weight and records the units it holds.
    input_fn : callable, optional
        For a module of your own: takes a list of items (arrays or token ids of equal length, texts)
        and returns its input as a tensor, a tuple of positional or a dict of keyword arguments.
    tokenizer : tokenizer, optional
        Fast tokenizer of transformers; found with the model if left out.
    processor : image processor or feature extractor, optional
        Of transformers, for images or sounds; found with the model if left out.
    revision : str, optional
        Commit, tag or branch on the Hugging Face hub.
    trust_remote_code : bool
        Run code that comes with the model. Off unless you trust its origin.

    Returns
    -------
    subject : Subject
        In the mode it was loaded in.

    Raises
    ------
    ValueError
        If the name, the init, the dtype or the device is unknown, or options exclude each other.
    ImportError
        If `device_map` is given and accelerate is missing.

    Examples
    --------
    >>> load_subject("builtin:language", init="random", seed=1).init
    'random'
    """
    check_option("init", init, INITS)
    check_type("seed", seed, int, "a whole number")
    if dtype is not None:
        check_option("dtype", dtype, DTYPES)
    spread = choose_spread(name, init, device, device_map, tp_plan)
    device = choose_device(device)
    if isinstance(name, torch.nn.Module):
        model, label, source = name, type(name).__name__, {"source": "module"}
        make = {"trained": lambda m, s: m, "random": make_random, "shuffled": make_shuffled}[init]
        if init != "trained" and not list(model.parameters()):
            raise ValueError(f"init={init!r}: {label} has no weights, so it has no twin.")
        model = make(model, seed)
    else:
        check_type("name", name, (str, os.PathLike), "a name, a folder or a torch.nn.Module")
        folder, label, source = _locate(name)
        options = {"trust_remote_code": trust_remote_code}
        if revision is not None:
            options["revision"] = source["revision"] = revision
        with _quiet_transformers():
            if label in WEIGHT_FREE:
                model, own = make_weight_free(label, init)
                processor = processor or own
            elif split_seed(label)[0] == DIGITS:
                model, own = load_digits(label, folder, init=init, seed=seed)
                processor = processor or own
            else:
                model = _load_model(folder, label, init, seed, dtype, options, spread)
                source |= describe_spread(model, spread)
                tokenizer = tokenizer or _load_part("AutoTokenizer", folder, options)
                part = _PROCESSORS.get(getattr(model, "main_input_name", ""))
                if part and processor is None:
                    processor = _load_part(part, folder, options)
            source["commit"] = getattr(model.config, "_commit_hash", None)
    if not spread and any(p.is_meta for p in model.parameters()):
        raise ValueError(f"{label} has weights on the meta device, without values.")
    if not spread and (dtype is not None or device != "cpu"):
        model = _move(model, name, dtype, device)
    return Subject(
        model,
        name=label,
        init=init,
        seed=seed,
        tokenizer=tokenizer,
        processor=processor,
        input_fn=input_fn,
        source=source,
    )


def _move(model: torch.nn.Module, name: object, dtype: str | None, device: str) -> torch.nn.Module:
    """Move a model that is ours; one that the user gave must be there already."""
    wanted = DTYPES[dtype] if dtype else None
    if model is name:
        tensor = next(model.parameters(), None)
        here = tensor is None or (
            tensor.device.type == torch.device(device).type and wanted in (None, tensor.dtype)
        )
        if not here:
            raise ValueError(
                f"dtype={dtype!r}, device={device!r} differ from the module that was given; it "
                "would be changed. Move it yourself first: model.to(...)."
            )
        return model
    return model.to(device=device, dtype=wanted)


def _locate(name: str | os.PathLike) -> tuple[str, str, dict]:
    """Return what transformers should load, the label, and the origin for the provenance."""
    text = os.fspath(name)
    if text.startswith(PREFIX):
        check_builtin(text)
        if text in WEIGHT_FREE:
            return "", text, {"source": "builtin"}
        folder, source = find_builtin(text)
        return folder, text, source
    text = os.path.expanduser(text)
    if Path(text).is_dir():
        if not (Path(text) / "config.json").exists():
            raise ValueError(
                f"name={text!r} is a folder without config.json. Give the folder of a transformers "
                "model (saved with save_pretrained)."
            )
        return text, Path(text).resolve().name, {"source": "folder"}
    if isinstance(name, os.PathLike) or text.startswith((".", "/", "~")):
        raise FileNotFoundError(f"name={text!r}: no such folder. Give the folder of a model.")
    return text, text, {"source": "hugging face"}


def _load_model(
    folder: str,
    label: str,
    init: str,
    seed: int,
    dtype: str | None,
    options: dict,
    spread: dict,
) -> torch.nn.Module:
    import safetensors
    import transformers

    if label.startswith(PREFIX):
        check_trained(label, folder, init)
    try:
        config = _load(transformers.AutoConfig, folder, options)
        kind = _find_class(config, options["trust_remote_code"])
        if init == "random":
            model = run_seeded(lambda: _make_from_config(kind, config, options), seed)
        else:
            wanted = DTYPES[dtype] if dtype else "auto"
            more = {"config": config, "dtype": wanted, "output_loading_info": True, **spread}
            model, info = _load(kind, folder, options, **more)
            if info["missing_keys"]:  # transformers would draw them at random, each time anew
                first = ", ".join(sorted(info["missing_keys"])[:3])
                raise ValueError(f"its file lacks {len(info['missing_keys'])} weights ({first}).")
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"name={label!r} could not be loaded: {first} Give a Hugging Face id that this "
            "machine can reach or has cached, the folder of a transformers model, or one of "
            f"{', '.join(list_builtins())}.{suggest(label, list_builtins())}"
        ) from error
    return make_shuffled(model, seed) if init == "shuffled" else model


def _load(kind, folder: str, options: dict, **more):
    """Call from_pretrained on what is on this machine; only what is not asks the network."""
    try:
        return kind.from_pretrained(folder, local_files_only=True, **options, **more)
    except (OSError, ValueError):
        if Path(folder).is_dir():
            raise
        return kind.from_pretrained(folder, **options, **more)


def _make_from_config(kind, config, options: dict) -> torch.nn.Module:
    if hasattr(kind, "from_config"):  # an Auto class
        model = kind.from_config(config, trust_remote_code=options["trust_remote_code"])
    else:
        model = kind(config)
    stored = getattr(config, "dtype", None)
    return model.to(stored) if isinstance(stored, torch.dtype) else model


def _find_class(config, trust_remote_code: bool):
    """Return the class that was saved; of T5 its encoder; else the plain model."""
    import transformers

    if config.model_type in ("t5", "mt5", "umt5"):
        prefix = {"t5": "T5", "mt5": "MT5", "umt5": "UMT5"}[config.model_type]
        return getattr(transformers, f"{prefix}EncoderModel")
    names = getattr(config, "architectures", None) or []
    if (
        names
        and hasattr(transformers, names[0])
        and not (trust_remote_code and hasattr(config, "auto_map"))
    ):
        return getattr(transformers, names[0])
    return transformers.AutoModel


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep the bars and notes of loading off the terminal, and no longer than that."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _load_part(auto: str, folder: str, options: dict):
    """Return the tokenizer or image processor of a model, or None if it has none."""
    import transformers

    try:
        part = _load(getattr(transformers, auto), folder, options)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        text = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "tokenizer.model")
        files = text if auto == "AutoTokenizer" else ("preprocessor_config.json",)
        if any((Path(folder) / name).exists() for name in files):
            raise ValueError(
                f"name={folder!r}: its {auto.removeprefix('Auto')} could not be read ({error}). "
                "Restore its files, or install the package that the message names."
            ) from error
        return None
    # without tokenizer files transformers makes an empty tokenizer from the model's type
    return None if getattr(part, "vocab_size", None) == 0 else part
