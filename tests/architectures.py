"""Tiny random models of every family whose sites netphys knows, and stimuli that fit each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
import transformers as t

import netphys

VOCABULARY = 50
ENDS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}


class Recurrent(torch.nn.Module):
    """Two recurrent layers, the first with time in front."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(VOCABULARY, 6)
        self.first = torch.nn.LSTM(6, 5, num_layers=2, bidirectional=True)
        self.second = torch.nn.GRU(10, 7, batch_first=True)
        self.read = torch.nn.Linear(7, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        hidden, _ = self.first(self.embed(ids).transpose(0, 1))
        hidden, _ = self.second(hidden.transpose(0, 1))
        return self.read(hidden)


def make_cnn() -> torch.nn.Module:
    """Return a plain convolutional network."""
    nn = torch.nn
    first = [nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*first, nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(125, 6))


def _list_makers(layers: int) -> dict[str, Callable[[], torch.nn.Module]]:
    common = {"num_attention_heads": 2, "num_hidden_layers": layers}
    body = {"hidden_size": 16, "intermediate_size": 24, **common}
    text = {"vocab_size": VOCABULARY, **body, **ENDS}
    grouped = {"num_key_value_heads": 1, **text}
    wide = {"head_dim": 12, **grouped}
    image = {"image_size": 32, "patch_size": 16}
    some = {"num_experts_per_tok": 2, **grouped}
    small = {"num_experts": 4, "moe_intermediate_size": 16, **some}
    sound = {
        "conv_dim": (8, 8),
        "conv_stride": (5, 2),
        "conv_kernel": (10, 3),
        "num_feat_extract_layers": 2,
        "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2,
        "vocab_size": VOCABULARY,
        **body,
    }
    stable = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", **sound}
    read = {"max_position_embeddings": 32, **text}
    whisper = {
        "d_model": 16,
        "num_mel_bins": 8,
        "max_source_positions": 50,
        "max_target_positions": 8,
        "decoder_layers": 1,
        "decoder_attention_heads": 2,
        "decoder_ffn_dim": 24,
        "encoder_layers": layers,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 24,
        "vocab_size": VOCABULARY,
        "decoder_start_token_id": 1,
        "begin_suppress_tokens": None,
        **ENDS,
    }
    t5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": layers, "num_heads": 2}
    gpt2 = {"n_layer": layers, "n_embd": 16, "n_head": 2, "n_positions": 32}
    return {
        "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(vocab_size=VOCABULARY, **gpt2, **ENDS)),
        "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**grouped)),
        "bert": lambda: t.BertForMaskedLM(t.BertConfig(**read)),
        "t5": lambda: t.T5EncoderModel(t.T5Config(vocab_size=VOCABULARY, **t5)),
        "vit": lambda: t.ViTForImageClassification(t.ViTConfig(**body, **image)),
        "resnet": lambda: t.ResNetForImageClassification(
            t.ResNetConfig(
                embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], layer_type="basic"
            )
        ),
        "mistral": lambda: t.MistralForCausalLM(t.MistralConfig(**grouped)),
        "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**grouped)),
        "qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**wide)),
        "gemma": lambda: t.GemmaForCausalLM(t.GemmaConfig(**wide)),
        "gemma2": lambda: t.Gemma2ForCausalLM(t.Gemma2Config(final_logit_softcapping=0.05, **wide)),
        "gemma3": lambda: t.Gemma3ForCausalLM(t.Gemma3TextConfig(**wide)),
        "gpt_neox": lambda: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**read)),
        "opt": lambda: t.OPTForCausalLM(
            t.OPTConfig(ffn_dim=24, word_embed_proj_dim=16, **{k: read[k] for k in read})
        ),
        "mixtral": lambda: t.MixtralForCausalLM(t.MixtralConfig(num_local_experts=4, **some)),
        "qwen2_moe": lambda: t.Qwen2MoeForCausalLM(
            t.Qwen2MoeConfig(
                shared_expert_intermediate_size=12, mlp_only_layers=list(range(layers - 1)), **small
            )
        ),
        "qwen3_moe": lambda: t.Qwen3MoeForCausalLM(t.Qwen3MoeConfig(norm_topk_prob=True, **small)),
        "mamba": lambda: t.MambaForCausalLM(
            t.MambaConfig(
                vocab_size=VOCABULARY,
                hidden_size=16,
                state_size=4,
                num_hidden_layers=layers,
                **ENDS,
            )
        ),
        "clip_vision": lambda: t.CLIPVisionModel(t.CLIPVisionConfig(**body, **image)),
        "clip": lambda: t.CLIPModel(
            t.CLIPConfig(text_config=read, vision_config=body | image, projection_dim=12)
        ),
        "whisper": lambda: t.WhisperForConditionalGeneration(t.WhisperConfig(**whisper)),
        "wav2vec2": lambda: t.Wav2Vec2ForCTC(t.Wav2Vec2Config(**stable)),
        "hubert": lambda: t.HubertModel(t.HubertConfig(**sound)),
        "lstm": Recurrent,
        "cnn": make_cnn,
        "roberta": lambda: t.RobertaForMaskedLM(t.RobertaConfig(**read)),
        "xlm_roberta": lambda: t.XLMRobertaForMaskedLM(t.XLMRobertaConfig(**read)),
        "electra": lambda: t.ElectraForMaskedLM(t.ElectraConfig(embedding_size=16, **read)),
        "deberta": lambda: t.DebertaV2ForMaskedLM(t.DebertaV2Config(**read)),
        "distilbert": lambda: t.DistilBertForMaskedLM(
            t.DistilBertConfig(
                dim=16, hidden_dim=24, n_layers=layers, n_heads=2, vocab_size=VOCABULARY, **ENDS
            )
        ),
        "phi3": lambda: t.Phi3ForCausalLM(t.Phi3Config(**grouped)),
        "olmo2": lambda: t.Olmo2ForCausalLM(t.Olmo2Config(**grouped)),
        "olmoe": lambda: t.OlmoeForCausalLM(t.OlmoeConfig(num_experts=4, **some)),
        "deit": lambda: t.DeiTForImageClassification(t.DeiTConfig(**body, **image)),
    }


FIRST = ("gpt2", "llama", "bert", "t5", "vit", "resnet")
# the same places in other models: tried in full where tests run on request
MORE = (
    "roberta",
    "xlm_roberta",
    "electra",
    "deberta",
    "distilbert",
    "phi3",
    "olmo2",
    "olmoe",
    "deit",
)
ARCHITECTURES = tuple(family for family in _list_makers(1) if family not in MORE)
IMAGES = ("vit", "deit", "resnet", "clip_vision", "cnn")
WAVES = ("wav2vec2", "hubert")


def make_model(family: str, *, layers: int = 2) -> torch.nn.Module:
    """Return a tiny random model of one family."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _list_makers(layers)[family]().eval()


def make_stimuli(family: str, *, n: int = 7) -> netphys.Stimuli:
    """Return stimuli for a family: ragged token ids, pixel values, or sounds."""
    rng = np.random.default_rng(1)
    if family in IMAGES:
        images = rng.normal(size=(n, 3, 32, 32)).astype(np.float32)
        return netphys.load_stimuli(arrays=images, kind="image")
    if family in WAVES:
        lengths = rng.choice([60, 85, 110], n)
        waves = [rng.normal(size=k).astype(np.float32) for k in lengths]
        return netphys.load_stimuli(arrays=waves, kind="audio", rate=1000)
    if family == "whisper":
        features = rng.normal(size=(n, 8, 100)).astype(np.float32)
        return netphys.load_stimuli(arrays=features, kind="audio", rate=100)
    lengths = rng.integers(2, 7, n)
    ids = [" ".join(map(str, rng.integers(1, VOCABULARY, k))) for k in lengths]
    condition = ["odd" if i % 2 else "even" for i in range(n)]
    return netphys.load_stimuli(pd.DataFrame({"condition": condition, "token_ids": ids}))


def make_subject(family: str, model: torch.nn.Module | None = None, **options) -> netphys.Subject:
    """Return a subject of one family; of two towers, one that sees an image beside each text."""
    model = make_model(family) if model is None else model
    weight = next(model.parameters())

    def see(texts: list[list[int]]) -> dict[str, torch.Tensor]:
        images = [np.random.default_rng(ids).normal(size=(3, 32, 32)) for ids in texts]
        pixels = torch.from_numpy(np.stack(images)).to(weight.device, weight.dtype)
        return {"input_ids": torch.tensor(texts, device=weight.device), "pixel_values": pixels}

    input_fn = see if family == "clip" else None
    return netphys.load_subject(model, input_fn=input_fn, **options)
