"""Where each kind lies in the model families of transformers: one table per family.

The kinds are the same variable everywhere:

=========  =========================================================================================
embed      what enters the first block (position and scaling included where the model adds them)
resid      what a block hands to the next one; after its normalisation where that is the block's
           last step (BERT and its like, wav2vec2 base, OPT-350m)
attn_out   output of attention's output projection: before the residual sum, before any
           normalisation of it (Gemma 2 and 3, OLMo 2)
head       values of all heads, side by side: the input of that projection
pattern    attention weights (head, query, key) of the eager attention
mlp        neurons: the input of the MLP's last projection; of layers without experts only
mlp_out    output of that projection; with experts the weighted sum of all of them
router     logits of the router, one per expert
experts    weight of each expert in the sum, 0 for those that were not chosen
conv       outputs of convolutions
logits     what the model returns as logits
=========  =========================================================================================

Where all of it is added up, a block's resid is its input + attn_out + mlp_out: GPT-2, Llama,
Mistral, Qwen, Gemma 1, Phi-3, GPT-NeoX, OPT, ViT, DeiT, CLIP, Whisper, Mixtral and the other
mixtures of experts, wav2vec2 and its like with stable layer norm. Gemma 2 and 3 and OLMo 2
normalise attn_out and mlp_out before they are added; BERT and its like, DistilBERT, wav2vec2 base
and OPT-350m normalise the sum. A Mamba block has neither attention nor MLP: only embed, resid and
logits. DeBERTa keeps its pattern to itself. ALBERT runs one block again and again and has no site
per layer.
"""

from __future__ import annotations

KINDS = (
    "embed",
    "resid",
    "attn_out",
    "head",
    "pattern",
    "mlp",
    "mlp_out",
    "router",
    "experts",
    "conv",
    "logits",
)

Places = dict[str, str | tuple[str, ...]]

# {} is the layer, {-1} the last one; of several places the first that exists is meant. Convolutions
# are found by their class; an entry `conv` leaves only those whose samples are the model's own.
_GPT2: Places = {
    "embed": "h.0@in",
    "resid": "h.{}",
    "attn_out": "h.{}.attn",
    "head": "h.{}.attn.c_proj@in",
    "pattern": "h.{}.attn@pattern",
    "mlp": "h.{}.mlp.c_proj@in",
    "mlp_out": "h.{}.mlp",
    "logits": "lm_head",
}
_LLAMA: Places = {
    "embed": "layers.0@in",
    "resid": "layers.{}",
    "attn_out": "layers.{}.self_attn",
    "head": "layers.{}.self_attn.o_proj@in",
    "pattern": "layers.{}.self_attn@pattern",
    "mlp": "layers.{}.mlp.down_proj@in",
    "mlp_out": "layers.{}.mlp",
    "logits": "lm_head",
}
_MOE: Places = _LLAMA | {
    "router": "layers.{}.mlp.gate",
    "experts": "layers.{}.mlp.gate@experts",
}
_NEOX: Places = {
    "embed": "layers.0@in",
    "resid": "layers.{}",
    "attn_out": "layers.{}.attention",
    "head": "layers.{}.attention.dense@in",
    "pattern": "layers.{}.attention@pattern",
    "mlp": "layers.{}.mlp.dense_4h_to_h@in",
    "mlp_out": "layers.{}.mlp",
    "logits": ("lm_head", "embed_out"),
}
_OPT: Places = {
    "embed": "layers.0@in",
    "resid": "layers.{}",
    "attn_out": "layers.{}.self_attn",
    "head": "layers.{}.self_attn.out_proj@in",
    "pattern": "layers.{}.self_attn@pattern",
    "mlp": "layers.{}.fc2@in",
    "mlp_out": "layers.{}.fc2",
    "logits": "lm_head",
}
_MAMBA: Places = {
    "embed": "layers.0@in",
    "resid": "layers.{}",
    "conv": (),  # its convolution runs by its weights, not as a module
    "logits": "lm_head",
}
_BERT: Places = {
    "embed": "encoder.layer.0@in",
    "resid": "encoder.layer.{}",
    "attn_out": "encoder.layer.{}.attention.output.dense",
    "head": "encoder.layer.{}.attention.output.dense@in",
    "pattern": "encoder.layer.{}.attention.self@pattern",
    "mlp": "encoder.layer.{}.output.dense@in",
    "mlp_out": "encoder.layer.{}.output.dense",
    "logits": ("cls", "lm_head", "generator_lm_head", "classifier"),
}
_DISTILBERT: Places = {
    "embed": "transformer.layer.0@in",
    "resid": "transformer.layer.{}",
    "attn_out": "transformer.layer.{}.attention",
    "head": "transformer.layer.{}.attention.out_lin@in",
    "pattern": "transformer.layer.{}.attention@pattern",
    "mlp": "transformer.layer.{}.ffn.lin2@in",
    "mlp_out": "transformer.layer.{}.ffn.lin2",
    "logits": ("vocab_projector", "classifier"),
}
_T5: Places = {
    "embed": "encoder.block.0@in",
    "resid": "encoder.block.{}",
    "attn_out": "encoder.block.{}.layer.0.SelfAttention",
    "head": "encoder.block.{}.layer.0.SelfAttention.o@in",
    "pattern": "encoder.block.{}.layer.0.SelfAttention@pattern",
    "mlp": "encoder.block.{}.layer.1.DenseReluDense.wo@in",
    "mlp_out": "encoder.block.{}.layer.1.DenseReluDense",
}
_VIT: Places = {
    "embed": "layers.0@in",
    "resid": "layers.{}",
    "attn_out": "layers.{}.attention",
    "head": "layers.{}.attention.o_proj@in",
    "pattern": "layers.{}.attention@pattern",
    "mlp": "layers.{}.mlp.fc2@in",
    "mlp_out": "layers.{}.mlp",
    "logits": "classifier",
}
_CLIP: Places = {
    "embed": "encoder.layers.0@in",
    "resid": "encoder.layers.{}",
    "attn_out": "encoder.layers.{}.self_attn",
    "head": "encoder.layers.{}.self_attn.out_proj@in",
    "pattern": "encoder.layers.{}.self_attn@pattern",
    "mlp": "encoder.layers.{}.mlp.fc2@in",
    "mlp_out": "encoder.layers.{}.mlp",
    "logits": "classifier",
}
_WHISPER: Places = {
    "embed": "encoder.layers.0@in",
    "resid": "encoder.layers.{}",
    "attn_out": "encoder.layers.{}.self_attn",
    "head": "encoder.layers.{}.self_attn.out_proj@in",
    "pattern": "encoder.layers.{}.self_attn@pattern",
    "mlp": "encoder.layers.{}.fc2@in",
    "mlp_out": "encoder.layers.{}.fc2",
    "conv": "encoder.conv2",  # the first one is twice as fast
    "logits": "classifier",
}
_WAV2VEC2: Places = {
    "embed": "encoder.layers.0@in",
    "resid": "encoder.layers.{}",
    "attn_out": "encoder.layers.{}.attention",
    "head": "encoder.layers.{}.attention.out_proj@in",
    "pattern": "encoder.layers.{}.attention@pattern",
    "mlp": "encoder.layers.{}.feed_forward.output_dense@in",
    "mlp_out": "encoder.layers.{}.feed_forward",
    "conv": "feature_extractor.conv_layers.{-1}.conv",  # the earlier ones are faster
    "logits": ("lm_head", "classifier"),
}
_RESNET: Places = {
    "embed": "embedder",
    "resid": "stages.{}.layers.{}",
    "logits": "classifier",
}

# by `model_type` of the configuration
FAMILIES: dict[str, Places] = {
    "gpt2": _GPT2,
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma": _LLAMA,
    "gemma2": _LLAMA,
    "gemma3_text": _LLAMA,
    "phi3": _LLAMA,
    "olmo2": _LLAMA,
    "mixtral": _MOE,
    "qwen2_moe": _MOE,
    "qwen3_moe": _MOE,
    "olmoe": _MOE,
    "gpt_neox": _NEOX,
    "opt": _OPT,
    "mamba": _MAMBA,
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "electra": _BERT,
    "deberta-v2": {k: v for k, v in _BERT.items() if k != "pattern"},  # which it keeps to itself
    "distilbert": _DISTILBERT,
    "t5": _T5,
    "vit": _VIT,
    "deit": _VIT,
    "clip": _CLIP,
    "clip_text_model": _CLIP,
    "clip_vision_model": _CLIP,
    "whisper": _WHISPER,
    "wav2vec2": _WAV2VEC2,
    "hubert": _WAV2VEC2,
    "resnet": _RESNET,
}

# Models of two towers, by the name of each, and what beside the units a sample of it has: positions
# of a text, or patches of an image.
TOWERS: dict[str, dict[str, str]] = {
    "clip": {"text_model": "position", "vision_model": "patch"},
}
