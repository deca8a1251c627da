"""transformers' Qwen3ForCausalLM: what the published decoder computes.

Also the folders it was computed from, without torch: `config` is a config.json
as published, `tensors` what lies in the safetensors.
"""

from pathlib import Path
import tempfile
from typing import Any

import numpy as np

from tests.convert import published
from tests.goldens import store

KEPT = 6
BATCH, LENGTH, PROMPT = 2, 9, 6  # of the 9 tokens 6 are prefilled, 3 decoded

# As transformers 4 wrote it. eps is so large that no wrong one goes unseen;
# head_dim is not hidden_size / heads.
TIED = dict(
  architectures=["Qwen3ForCausalLM"],
  model_type="qwen3",
  attention_bias=False,
  attention_dropout=0.0,
  head_dim=12,
  hidden_act="silu",
  hidden_size=24,
  initializer_range=0.02,
  intermediate_size=40,
  max_position_embeddings=512,
  max_window_layers=3,
  num_attention_heads=4,
  num_hidden_layers=3,
  num_key_value_heads=2,
  rms_norm_eps=0.01,
  rope_scaling=None,
  rope_theta=5000.0,
  sliding_window=None,
  tie_word_embeddings=True,
  torch_dtype="float32",
  use_cache=True,
  use_sliding_window=False,
  vocab_size=40,
)
# As transformers 5 writes it. Every matrix but k and v is square, so that a
# transposed one has a shape that fits.
UNTIED = {
  k: v
  for k, v in TIED.items()
  if k not in ("rope_scaling", "rope_theta", "torch_dtype")
} | dict(
  dtype="float32",
  intermediate_size=24,
  num_attention_heads=2,
  num_hidden_layers=2,
  num_key_value_heads=1,
  rms_norm_eps=0.002,
  rope_parameters={"rope_theta": 300.0, "rope_type": "default"},
  tie_word_embeddings=False,
  vocab_size=24,
  layer_types=["full_attention"] * 2,
)
CONFIGS = {"tied": TIED, "untied": UNTIED}
SHARDS = {"tied": 1, "untied": 3}
DECODED, DIFFERENTIATED = "tied", "untied"  # one of each is enough


def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
  """Name -> shape of the published tensors."""
  D, F, V = (
    config[k] for k in ("hidden_size", "intermediate_size", "vocab_size")
  )
  E = config["head_dim"]
  q = config["num_attention_heads"] * E
  kv = config["num_key_value_heads"] * E
  out = {"model.embed_tokens.weight": (V, D)}
  for i in range(config["num_hidden_layers"]):
    out |= {
      f"model.layers.{i}.{name}.weight": shape
      for name, shape in {
        "self_attn.q_proj": (q, D),
        "self_attn.k_proj": (kv, D),
        "self_attn.v_proj": (kv, D),
        "self_attn.o_proj": (D, q),
        "self_attn.q_norm": (E,),
        "self_attn.k_norm": (E,),
        "mlp.gate_proj": (F, D),
        "mlp.up_proj": (F, D),
        "mlp.down_proj": (D, F),
        "input_layernorm": (D,),
        "post_attention_layernorm": (D,),
      }.items()
    }
  out["model.norm.weight"] = (D,)
  if not config["tie_word_embeddings"]:
    out["lm_head.weight"] = (V, D)
  return out


def tensors(kind: str) -> published.Tensors:
  out = published.weights(shapes(CONFIGS[kind]))
  # Small beside what the layers add, which a tied head would else drown.
  out["model.embed_tokens.weight"] *= np.float32(0.7)
  return out


def write(folder: Path, kind: str) -> Path:
  return published.write(
    folder, CONFIGS[kind], tensors(kind), shards=SHARDS[kind]
  )


def tokens(kind: str) -> np.ndarray:
  x = store.noise(f"qwen3 {kind} tokens", (BATCH, LENGTH))
  size = CONFIGS[kind]["vocab_size"]
  return np.minimum((x + 1) / 2 * size, size - 1).astype(np.int32)


def layer_1(name: str) -> bool:
  """Whose gradients are kept: one layer's and what lies outside of layers."""
  return ".layers." not in name or ".layers.1." in name


# ------------------------------------------------------------- with torch


def cases() -> dict[str, dict[str, Any]]:
  import torch

  out = {}
  for kind in CONFIGS:
    ids = torch.from_numpy(tokens(kind)).long()
    model = reference(kind)
    with torch.no_grad():
      out[f"{kind} float32"] = outputs(model(ids, output_hidden_states=True))
      if kind == DECODED:
        out[f"{kind} decoding"] = decoding(model, ids)
    if kind == DIFFERENTIATED:
      loss = model(ids, labels=ids).loss
      loss.backward()
      out[f"{kind} gradients"] = {"loss": loss.detach().numpy()} | {
        name: x.grad.numpy()
        for name, x in model.named_parameters()
        if layer_1(name)
      }
    with torch.no_grad():
      out[f"{kind} bfloat16"] = outputs(
        model.bfloat16()(ids, output_hidden_states=True)
      )
  return out


def reference(kind: str):
  """The published folder, as transformers reads it."""
  import transformers

  with tempfile.TemporaryDirectory() as folder:
    model, info = transformers.Qwen3ForCausalLM.from_pretrained(
      write(Path(folder), kind),
      attn_implementation="eager",
      dtype="float32",
      output_loading_info=True,
    )
  assert not any(info.values()), info
  return model.eval()


def outputs(out) -> dict[str, np.ndarray]:
  """Logits, and hidden states in float32: numpy has no bfloat16."""
  return {"logits": out.logits.float().numpy()} | {
    f"hidden.{i}": x.float().numpy() for i, x in enumerate(out.hidden_states)
  }


def decoding(model, ids) -> dict[str, np.ndarray]:
  """Logits of the last prompt token and of each that follows it alone, and the
  cache in the end, (B, L, heads, head_dim)."""
  out = model(ids[:, :PROMPT], use_cache=True)
  name = "cache" if hasattr(out, "cache") else "past_key_values"  # before 5.24
  logits = [out.logits[:, -1]]
  for i in range(PROMPT, LENGTH):
    out = model(ids[:, i : i + 1], use_cache=True, **{name: getattr(out, name)})
    logits.append(out.logits[:, -1])
  named = {f"logits.{i}": x.numpy() for i, x in enumerate(logits)}
  for i, layer in enumerate(getattr(out, name).layers):
    named[f"keys.{i}"] = layer.keys.transpose(1, 2).numpy()
    named[f"values.{i}"] = layer.values.transpose(1, 2).numpy()
  return named
