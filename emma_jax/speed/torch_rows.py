"""The same rows in torch: transformers' and diffusers' own models.

torch is imported where it runs, in a process of its own: the extra `torch`.
Sizes are ours, through the converters' config.json.
"""

from typing import Any

from emma_jax.convert import dcae, qwen3, siglip
from emma_jax.speed.rows import Work
from emma_jax.speed.sizes import Sizes

MODES = ("eager", "compile")


def work(row: str, sizes: Sizes, dtype: str, mode: str, threads: int) -> Work:
  """A row's work; `mode` is eager or compile."""
  import torch

  torch.set_num_threads(threads)
  torch.set_grad_enabled(False)
  torch.manual_seed(0)
  kind, _, what = row.partition("_")
  build = {"qwen3": _qwen3, "siglip2": _siglip2, "dcae": _dcae}[kind]
  run = build(what, sizes, getattr(torch, dtype), mode)

  def inference():
    with torch.inference_mode():
      run()

  return inference


def _random(module: Any, dtype: Any) -> Any:
  """Weights like those of `rows.random_like`."""
  module = module.to(dtype).eval()
  for p in module.parameters():
    p.normal_(0, 0.02) if p.ndim > 1 else p.uniform_(0.5, 1.0)
  return module


def _compiled(run: Any, mode: str) -> Any:
  import torch

  return torch.compile(run, dynamic=False) if mode == "compile" else run


def _qwen3(what: str, sizes: Sizes, dtype: Any, mode: str) -> Work:
  import torch
  import transformers
  from transformers.initialization import no_init_weights

  config = transformers.Qwen3Config(**qwen3.config_to_hf(sizes.llm))
  with no_init_weights():
    model = transformers.Qwen3ForCausalLM(config)
  model.tie_weights()
  model = _random(model, dtype)
  length, room = sizes.prompt, sizes.prompt + sizes.answer
  ids = torch.randint(0, sizes.llm.vocab_size, (1, length))
  place = torch.arange(room)[None]

  def forward(tokens, position, cache):
    logits = model(
      input_ids=tokens,
      position_ids=position,
      use_cache=True,
      past_key_values=cache,
      logits_to_keep=1,
    ).logits
    return logits[:, -1].argmax(-1, keepdim=True)

  def empty():
    if mode == "compile":  # needs shapes that stay
      return transformers.StaticCache(config=config, max_cache_len=room)
    return transformers.DynamicCache(config=config)

  step = _compiled(forward, mode)
  if what == "prefill":
    cache = empty()

    def prefill():
      step(
        ids,
        place[:, :length],
        (cache.reset() or cache) if mode == "compile" else empty(),
      )

    return prefill
  with torch.inference_mode():
    cache = empty()
    forward(ids, place[:, :length], cache)
    read = [
      (x.keys.clone(), x.values.clone(), _length(x)) for x in cache.layers
    ]

  def decode():
    for layer, (keys, values, used) in zip(cache.layers, read):
      _rewind(layer, keys, values, used)
    token = ids[:, :1]
    for i in range(length, room):
      token = step(token, place[:, i : i + 1], cache)

  return decode


def _length(layer: Any) -> Any:
  """A static cache counts what it holds, in a tensor or a number."""
  used: Any = getattr(layer, "cumulative_length", None)
  return used.clone() if hasattr(used, "clone") else used


def _rewind(layer: Any, keys: Any, values: Any, used: Any) -> None:
  """Back to after the prompt; a dynamic cache makes new tensors anyway."""
  if used is None:
    layer.keys, layer.values = keys, values
    return
  layer.keys.copy_(keys)
  layer.values.copy_(values)
  if hasattr(used, "clone"):
    layer.cumulative_length.copy_(used)
  else:
    layer.cumulative_length = used


def _siglip2(what: str, sizes: Sizes, dtype: Any, mode: str) -> Work:
  del what
  import torch
  import transformers
  from transformers.initialization import no_init_weights

  config = transformers.SiglipVisionConfig(**siglip.config_to_hf(sizes.vision))
  with no_init_weights():
    model = _random(transformers.SiglipVisionModel(config), dtype)
  side = sizes.vision_side
  x = (2 * torch.rand(1, 3, side, side) - 1).to(dtype)
  step = _compiled(lambda: model(pixel_values=x).pooler_output, mode)
  return lambda: step()


def _dcae(what: str, sizes: Sizes, dtype: Any, mode: str) -> Work:
  import diffusers
  import torch

  model = diffusers.AutoencoderDC.from_config(dcae.config_to_hf(sizes.dcae))
  part = _random(getattr(model, f"{what}r"), dtype)
  c, side = sizes.dcae, sizes.side
  shape = (1, 3, side, side)
  if what == "decode":
    shape = (1, c.latent_channels, side // c.factor, side // c.factor)
  x = (2 * torch.rand(shape) - 1).to(dtype)
  step = _compiled(part, mode)
  return lambda: step(x)
