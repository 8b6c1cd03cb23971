"""Train the built-in language subject: a byte-level BPE tokenizer and a small GPT-2, from nothing.

The only training text is what `stories.py` makes up. Run it as a script, from any folder::

    python train.py --out some/folder        # on a GPU about 3000 steps of 64 x 512 tokens
    python train.py --out some/folder --eval # only evaluate what is there
"""

import argparse
import json
import logging
import math
import os
import platform
import re
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import lexicon as lx
import numpy as np
import stories
import tokenizers
import torch
import transformers
from safetensors.torch import save_file
from tqdm.auto import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

HERE = Path(__file__).resolve().parent
END = "<|endoftext|>"
VOCABULARY, LENGTH = 2048, 512
HELDOUT_SEED, HELDOUT_BYTES = 977, 20_000
CHUNK = 1000  # texts that one process makes at a time
logger = logging.getLogger(__name__)


def parse_arguments(argv=None):
    """Return the command line's options."""
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3000 if gpu else 2400)
    parser.add_argument("--batch", type=int, default=64 if gpu else 8, help="rows of 512 tokens")
    parser.add_argument("--texts", type=int, default=80_000)
    parser.add_argument("--lr", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1))
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: torch decides")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for weights and tokenizer")
    parser.add_argument("--eval", action="store_true", help="evaluate only")
    return parser.parse_args(argv)


# text


def _make_chunk(job):
    seed, chunk, n = job
    return stories.make_corpus(n, np.random.default_rng([seed, 1, chunk]), fragments=0.3)


def make_texts(n, seed, workers):
    """Return `n` texts, the same for any number of processes."""
    jobs = [(seed, i, min(CHUNK, n - i * CHUNK)) for i in range(math.ceil(n / CHUNK))]
    if workers <= 1:
        chunks = [_make_chunk(job) for job in tqdm(jobs, desc="texts")]
    else:
        with ProcessPoolExecutor(workers) as pool:
            chunks = list(tqdm(pool.map(_make_chunk, jobs), total=len(jobs), desc="texts"))
    return [text for chunk in chunks for text in chunk]


def make_heldout():
    """Return stories of a seed that training never uses, one a line."""
    rng = np.random.default_rng([HELDOUT_SEED, 2])
    lines = []
    while sum(len(line) + 1 for line in lines) < HELDOUT_BYTES:
        lines.append(stories.make_story(rng))
    return "\n".join(lines) + "\n"


def make_tokenizer_texts(texts):
    """Yield pieces for the tokenizer: no invented names, and every content word often enough."""
    pieces = [re.findall(r" ?[A-Za-z]+| ?[^\sA-Za-z]+", text) for text in texts]
    known = {p.strip() for row in pieces for p in row if not p.strip()[0].isupper()}
    known |= set(lx.GIRLS + lx.BOYS)
    for piece in (p for row in pieces for p in row):
        word = piece.strip()
        if word in known or word.lower() in known:
            yield piece
    for word in [" " + word for word in lx.content_words()] + lx.GIRLS + lx.BOYS:
        yield from [word] * 50


def train_tokenizer(texts, out):
    """Train a byte-level BPE tokenizer, save it in `out` and return it as transformers loads it."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = tokenizers.processors.ByteLevel(
        add_prefix_space=False, trim_offsets=True
    )
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(make_tokenizer_texts(texts[:3000]), trainer)
    tokenizer.save(str(out / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_prefix_space": False,
        "bos_token": END,
        "eos_token": END,
        "unk_token": END,
        "clean_up_tokenization_spaces": False,
        "model_max_length": LENGTH,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return AutoTokenizer.from_pretrained(out, local_files_only=True)


def encode(tokenizer, texts):
    """Return the token ids of all texts, each after an end mark, and where the texts start."""
    end = tokenizer.convert_tokens_to_ids(END)
    rows = tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
    lengths = np.array([1 + len(row.ids) for row in rows])
    ids = np.fromiter((i for row in rows for i in (end, *row.ids)), np.int64, lengths.sum())
    return ids, np.cumsum(lengths) - lengths


# model


def make_model(tokenizer, seed):
    """Return an untrained model."""
    end = tokenizer.convert_tokens_to_ids(END)
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=LENGTH,
        n_embd=128,
        n_layer=6,
        n_head=4,
        activation_function="gelu_pytorch_tanh",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=end,
        eos_token_id=end,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config)


def draw_rows(ids, starts, batch, rng):
    """Return row starts: whole texts with and without the end mark, and places inside texts."""
    last = len(ids) - LENGTH - 1
    whole = starts[rng.integers(0, np.searchsorted(starts, last), batch)]
    anywhere = rng.integers(0, last, batch)
    kind = rng.random(batch)
    return np.where(kind < 0.4, whole, np.where(kind < 0.7, np.minimum(whole + 1, last), anywhere))


def make_optimizer(model, args):
    """Return AdamW with weight decay on matrices, and its warm-up and cosine schedule."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.95))
    warm = max(1, min(200, args.steps // 10))

    def factor(step):
        progress = min(1.0, max(0.0, (step - warm) / max(1, args.steps - warm)))
        return min(1.0, (step + 1) / warm) * (
            0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))
        )

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def train(model, ids, starts, args, device):
    """Train `model` in place."""
    rng = np.random.default_rng([args.seed, 3])
    data = torch.from_numpy(ids).to(device)
    window = torch.arange(LENGTH + 1, device=device)
    optimizer, schedule = make_optimizer(model, args)
    model.train()
    bar = tqdm(range(args.steps), desc="training", mininterval=5)
    for step in bar:
        rows = torch.from_numpy(draw_rows(ids, starts, args.batch, rng)).to(device)
        tokens = data[rows[:, None] + window]
        with torch.autocast(device, torch.bfloat16):
            logits = model(tokens[:, :-1], use_cache=False).logits.float()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == args.steps - 1:
            bar.set_postfix(loss=f"{loss.item():.3f}")
            logger.info("step %d loss %.4f", step, loss.item())
    model.eval()


def save_model(model, out):
    """Save float16 weights and a configuration that loads them as float32."""
    state = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    state.pop("lm_head.weight", None)  # tied to the embedding
    state = {name: value.to(torch.float16).contiguous() for name, value in state.items()}
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)
    config = model.config.to_diff_dict()
    config |= {"architectures": ["GPT2LMHeadModel"], "dtype": "float32"}
    config.pop("_name_or_path", None)
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


# evaluation


@torch.no_grad()
def compute_loss(model, tokenizer, texts):
    """Return the mean loss per token, in nats, of texts that are shown one by one."""
    total = count = 0
    device = next(model.parameters()).device
    for text in texts:
        ids, _ = encode(tokenizer, [text])
        ids = torch.from_numpy(ids[: LENGTH + 1]).to(device)
        logits = model(ids[None, :-1]).logits[0].float()
        total += torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum").item()
        count += len(ids) - 1
    return total / count


def compute_unigram_loss(counts, tokenizer, texts):
    """Return the mean loss per token, in nats, of token frequencies alone."""
    logp = np.log((counts + 1) / (counts + 1).sum())
    return float(-np.mean(np.concatenate([logp[encode(tokenizer, [t])[0][1:]] for t in texts])))


@torch.no_grad()
def compute_agreement(model, tokenizer, *, n=400, seed=0):
    """Return how often "were" is likelier than "was" after "the keys near the door", and so on.

    The share is given for second nouns of the same and of the other number as the subject.
    """
    rng = np.random.default_rng(seed)
    nouns = [
        pair
        for kind in ("animal", "tool", "vehicle", "building", "small")
        for (k, singular), many in lx.NOUNS.items()
        if k == kind and many and many != singular
        for pair in [(singular, many)]
    ]
    was, were = (tokenizer.encode(word, add_special_tokens=False) for word in (" was", " were"))
    hits = {"same": [], "other": []}
    for _ in range(n):
        first, second = rng.choice(len(nouns), 2, replace=False)
        number, distractor = rng.integers(0, 2, 2)
        where = lx.PREPOSITIONS[rng.integers(len(lx.PREPOSITIONS))]
        text = f"The {nouns[first][number]} {where} the {nouns[second][distractor]}"
        ids = torch.from_numpy(encode(tokenizer, [text])[0]).to(next(model.parameters()).device)
        logits = model(ids[None]).logits[0, -1]
        right = (logits[were[0]] > logits[was[0]]).item() == bool(number)
        hits["same" if number == distractor else "other"].append(right)
    return {name: float(np.mean(values)) for name, values in hits.items()}


def evaluate(out, seed, device, counts=None):
    """Return losses per token of the saved model, of an untrained twin and of token frequencies.

    "train" is on training texts, "train_unseen" on the same kind of texts (fragments included) from
    another seed, "heldout..." on the whole stories of heldout.txt.
    """
    tokenizer = AutoTokenizer.from_pretrained(out, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(out, local_files_only=True).eval().to(device)
    twin = make_model(tokenizer, seed + 1).eval().to(device)
    heldout = (HERE / "heldout.txt").read_text().splitlines()
    seen, unseen = (
        stories.make_corpus(100, np.random.default_rng(key), fragments=0.3)
        for key in ([seed, 1, 0], [HELDOUT_SEED, 3, 0])
    )
    if counts is None:
        ids, _ = encode(tokenizer, make_texts(2000, seed, 1))
        counts = np.bincount(ids, minlength=VOCABULARY)
    return {
        "train": compute_loss(model, tokenizer, seen),
        "train_unseen": compute_loss(model, tokenizer, unseen),
        "heldout": compute_loss(model, tokenizer, heldout),
        "heldout_untrained": compute_loss(twin, tokenizer, heldout),
        "heldout_unigram": compute_unigram_loss(counts, tokenizer, heldout),
        "agreement": compute_agreement(model, tokenizer),
        "agreement_untrained": compute_agreement(twin, tokenizer),
    }


def describe_run(args, device, seconds, n_tokens, n_parameters):
    """Return what is needed to repeat the training."""
    return {
        "steps": args.steps,
        "batch": args.batch,
        "length": LENGTH,
        "texts": args.texts,
        "corpus_tokens": n_tokens,
        "lr": args.lr,
        "seed": args.seed,
        "parameters": n_parameters,
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine() + " CPU",
        "seconds": round(seconds, 1),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": torch.__version__,
            "tokenizers": tokenizers.__version__,
            "transformers": transformers.__version__,
        },
    }


def build(args, device):
    """Make the texts, train tokenizer and model, save all in `args.out`, return the description."""
    start = time.perf_counter()
    texts = make_texts(args.texts, args.seed, args.workers)
    tokenizer = train_tokenizer(texts, args.out)
    ids, starts = encode(tokenizer, texts)
    logger.info("%d texts, %d tokens, %.0f s", len(texts), len(ids), time.perf_counter() - start)
    model = make_model(tokenizer, args.seed).to(device)
    train(model, ids, starts, args, device)
    save_model(model, args.out)
    seconds = time.perf_counter() - start
    n_parameters = sum(p.numel() for p in model.parameters())
    run = describe_run(args, device, seconds, len(ids), n_parameters)
    counts = np.bincount(ids, minlength=VOCABULARY)
    return run | {"losses": evaluate(args.out, args.seed, device, counts)}


def main(argv=None):
    """Run the command line."""
    args = parse_arguments(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if args.threads:
        torch.set_num_threads(args.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")
    if not (HERE / "heldout.txt").exists():
        (HERE / "heldout.txt").write_text(make_heldout())
    if args.eval:
        print(json.dumps(evaluate(args.out, args.seed, device), indent=2))
        return
    args.out.mkdir(parents=True, exist_ok=True)
    run = build(args, device)
    (args.out / "training.json").write_text(json.dumps(run, indent=2) + "\n")
    print(json.dumps(run, indent=2))


if __name__ == "__main__":
    main()
