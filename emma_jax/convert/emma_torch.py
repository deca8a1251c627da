"""EMMA (arXiv 2512.04810) in plain PyTorch: answers, draws and edits.

  python emma_torch.py ask "what colour is the star?" --image star.png
  python emma_torch.py draw "a red star" --out star.png
  python emma_torch.py edit "make the star blue" --image star.png --out blue.png

config.json, model*.safetensors and tokenizer.json lie beside this file; torch,
safetensors and pillow are all it needs. From Python: `Emma.load(folder)`.

`w` are weights, a tree of the names in the files, and `c` a part's section of
the config. A tensor's name ends in its axes: B rows, L tokens, H heads, D E
widths, P pictures, T tokens of a picture (row-major), C channels, Y X pixels.
"""

import argparse
import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace

from PIL import Image, ImageOps
from safetensors.torch import load_file
import torch
import torch.nn.functional as F

FORMAT = "emma-torch-1"
GRID = 32  # pixels per token and side
EXACT = ("heads.", "vision.router.", "autoencoder.latent.")  # always float32
ACTIVATIONS = {"relu": F.relu, "relu6": F.relu6, "silu": F.silu, "gelu": F.gelu}

linear = lambda w, x: F.linear(x, w.weight, getattr(w, "bias", None))
conv = lambda w, x, **options: F.conv2d(
  x,
  w.weight,
  getattr(w, "bias", None),
  padding=w.weight.shape[-1] // 2,
  **options,
)
gelu = lambda x: F.gelu(x, approximate="tanh")
two_layers = lambda w, x, act=gelu: linear(w.fc2, act(linear(w.fc1, x)))
layer_norm = lambda w, x, eps: F.layer_norm(
  x, x.shape[-1:], w.weight, w.bias, eps
)
layers = lambda w: [vars(w)[str(i)] for i in range(len(vars(w)))]


def rms_norm(w, x, eps: float):
  """Over the last axis of x; statistics in float32."""
  y = x.float()
  y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps)
  return y.to(x.dtype) * w.weight


class Autoencoder:
  """DC-AE (arXiv 2410.10733): 32x smaller grids of latents, and back."""

  def __init__(self, w, c: dict):
    self.w, self.c = w, c

  def encode(self, pixels_PCYX):
    """Pictures in [-1, 1] -> latents (P, T, C) of unit variance."""
    w, n = self.w.encoder, self.c["encoder_layers_per_block"]
    # No first stage: the first convolution itself halves the picture.
    x = (
      conv(w.conv_in, pixels_PCYX)
      if n[0]
      else self.down(w.conv_in, pixels_PCYX, shortcut=False)
    )
    for i in (i for i in range(len(n)) if n[i]):
      stage = vars(w)[f"stage{i}"]
      x = self.blocks(stage, x, "encoder", i)
      x = self.down(stage.down, x) if i + 1 < len(n) else x
    z = conv(w.conv_out, x)
    if self.c["encoder_out_shortcut"]:
      z = z + x.unflatten(1, (z.shape[1], -1)).mean(2)
    z_PTC, latent = z.flatten(2).mT, self.w.latent
    return ((z_PTC.float() - latent.shift) * latent.scale).to(z.dtype)

  def decode(self, latents_PTC, grid: tuple[int, int]):
    """Latents -> pictures (P, 3, Y, X) around [-1, 1], not clipped."""
    w, n = self.w.decoder, self.c["decoder_layers_per_block"]
    z_PTC = latents_PTC.float() / self.w.latent.scale + self.w.latent.shift
    z = z_PTC.to(latents_PTC.dtype).mT.unflatten(2, grid)
    x = conv(w.conv_in, z)
    if self.c["decoder_in_shortcut"]:
      x = x + z.repeat_interleave(x.shape[1] // z.shape[1], 1)
    for i in reversed([i for i in range(len(n)) if n[i]]):
      stage = vars(w)[f"stage{i}"]
      x = self.up(stage.up, x) if i + 1 < len(n) else x
      x = self.blocks(stage, x, "decoder", i)
    x = ACTIVATIONS[self.c["decoder_conv_act_fn"]](self.norm(w.norm_out, x))
    return (
      conv(w.conv_out, x) if n[0] else self.up(w.conv_out, x, shortcut=False)
    )

  def blocks(self, w, x, side: str, i: int):
    """The blocks of the `side`'s stage i: (P, C, Y, X) -> (P, C, Y, X)."""
    c = self.c
    act = c["decoder_act_fns"][i] if side == "decoder" else "silu"
    for j in range(c[f"{side}_layers_per_block"][i]):
      b = vars(w)[f"block{j}"]
      if c[f"{side}_block_types"][i] == "ResBlock":
        y = conv(b.conv2, ACTIVATIONS[act](conv(b.conv1, x)))
        x = x + self.norm(b.norm, y)
        continue
      x = x + self.attention(b.attention, x, c[f"{side}_qkv_multiscales"][i])
      y = F.silu(conv(b.conv.inverted, x))
      value, gate = conv(b.conv.depth, y, groups=y.shape[1]).chunk(2, 1)
      x = x + self.norm(b.conv.norm, conv(b.conv.point, value * F.silu(gate)))
    return x

  def attention(self, w, x, scales: list):
    """Multi-scale ReLU linear attention. to_q, to_k, to_v are only names: runs
    of 3 * head_dim of their channels are a head's q, k and v."""
    E = self.c["attention_head_dim"]
    qkv = torch.cat([conv(w.to_q, x), conv(w.to_k, x), conv(w.to_v, x)], 1)
    every = [qkv]
    for i in range(len(scales)):  # a filter, then a map of E channels each
      s = vars(w)[f"scale{i}"]
      y = conv(s.filter, qkv, groups=qkv.shape[1])
      every.append(conv(s, y, groups=qkv.shape[1] // E))
    runs = torch.cat(every, 1).float().flatten(2).unflatten(1, (-1, 3, E))
    q, k, v = F.relu(runs[:, :, 0]), F.relu(runs[:, :, 1]), runs[:, :, 2]
    y = (v @ k.mT @ q) / (k.sum(-1, keepdim=True).mT @ q + 1e-15)
    y = y.to(x.dtype).flatten(1, 2).unflatten(2, x.shape[2:])
    return self.norm(w.norm, conv(w.to_out, y))

  def norm(self, w, x):
    """Over a pixel's channels, or with the statistics of training."""
    if hasattr(w, "running_mean"):
      return F.batch_norm(x, w.running_mean, w.running_var, w.weight, w.bias)
    return (rms_norm(w, x.movedim(1, -1), 1e-5) + w.bias).movedim(-1, 1)

  def down(self, w, x, shortcut=True):
    """Half the rows and columns; the shortcut is means of what came in."""
    if self.c["downsample_block_type"] == "pixel_unshuffle":
      y = F.pixel_unshuffle(conv(w.conv, x), 2)
    else:
      y = conv(w.conv, x, stride=2)
    folded = F.pixel_unshuffle(x, 2)
    return y + folded.unflatten(1, (y.shape[1], -1)).mean(2) if shortcut else y

  def up(self, w, x, shortcut=True):
    """Twice the rows and columns; the shortcut is repeats of what came in."""
    if self.c["upsample_block_type"] == "pixel_shuffle":
      y = F.pixel_shuffle(conv(w.conv, x), 2)
    else:
      y = conv(w.conv, F.interpolate(x, scale_factor=2, mode="nearest"))
    if not shortcut:
      return y
    repeats = 4 * y.shape[1] // x.shape[1]
    return y + F.pixel_shuffle(x.repeat_interleave(repeats, 1), 2)


class VisionTower:
  """SigLIP2 (arXiv 2502.14786) whose last blocks are one of two experts."""

  def __init__(self, w, c: dict):
    self.w, self.c, self.encoder = w, c, c["encoder"]

  def __call__(self, pixels_PCYX, route: str):
    """Semantic tokens (P, T, 4 D) of pictures in [-1, 1]. route: the expert for
    all, "versatile" or "stem", or "router": each picture's own choice."""
    w, c, native = self.w, self.encoder, (self.encoder["native_grid"],) * 2
    x = F.conv2d(pixels_PCYX, w.embed.weight, w.embed.bias, c["patch_size"])
    position = w.embed.position.float().mT.unflatten(1, native)[None]
    h, v = x.shape[2:]
    if (h, v) != native:
      naflex = c["position_resize"] == "bilinear_antialias"
      position = F.interpolate(
        position,
        (h, v),
        antialias=naflex,
        mode="bilinear" if naflex else "bicubic",
      )
    x = self.run(w.lower, (x + position.to(x.dtype)).flatten(2).mT)
    if route == "router":
      science_P = two_layers(w.router, x.float().mean(1)).softmax(-1)[:, 1]
      stem_P = (science_P > self.c["router_threshold"])[:, None, None]
      x = torch.where(stem_P, self.run(w.stem, x), self.run(w.versatile, x))
    else:
      x = self.run(vars(w)[route], x)
    # A token is 2x2 patches, one after the other along the channels.
    x = layer_norm(w.post_norm, x, c["norm_eps"])
    x = x.unflatten(1, (h // 2, 2, v // 2, 2)).transpose(2, 3)
    return x.flatten(3).flatten(1, 2)

  def run(self, w, x_PTD):
    """One stack of blocks: (P, T, D) -> (P, T, D)."""
    eps, heads = self.encoder["norm_eps"], (self.encoder["num_heads"], -1)
    for block in layers(w):
      a, y = block.attention, layer_norm(block.attention_norm, x_PTD, eps)
      q, k, v = (
        linear(m, y).unflatten(2, heads).transpose(1, 2)
        for m in (a.query, a.key, a.value)
      )
      y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
      x_PTD = x_PTD + linear(a.out, y)
      y = linear(block.mlp.up, layer_norm(block.mlp_norm, x_PTD, eps))
      x_PTD = x_PTD + linear(block.mlp.down, gelu(y))
    return x_PTD


class Llm:
  """Qwen3 of which two branches share some parts. The mask is made of ids
  (5, B, L): sample of the row (0: padding), slot in reading order, last slot it
  may see, number of its noisy picture (0: clean), rotary position."""

  attend = lambda self, q, k, v, mask: F.scaled_dot_product_attention(
    q, k, v, mask[:, None], enable_gqa=True
  )  # a key serves some queries

  def __init__(self, w, c: dict):
    self.w, self.c, self.blocks, none = w, c, [], SimpleNamespace()
    for stack in ("shallow", "deep"):
      for block in map(vars, layers(vars(w).get(stack, none))):
        shared = vars(block.get("shared", none))
        self.blocks.append(
          {
            b: SimpleNamespace(**shared, **vars(block.get(b, none)))
            for b in ("und", "gen")
          }
        )

  def __call__(self, xs: dict, ids: dict, cache: tuple | None = None):
    """Final hidden states of tokens behind a cache, and the cache with them:
    (ids, per layer keys and values). xs (B, L, D) and ids are per branch."""
    query = torch.cat([ids[b] for b in xs], 2)
    key = torch.cat([cache[0], query], 2) if cache else query
    sample, _, end, picture, _ = query[..., None]
    key_sample, slot, _, noisy, _ = key[:, :, None]
    mask = (sample == key_sample) & (key_sample > 0) & (slot <= end)
    mask, kept = mask & ((noisy == 0) | (noisy == picture)), []
    for i, block in enumerate(self.blocks):
      xs, kv = self.block(block, xs, ids, mask, cache[1][i] if cache else None)
      kept.append(kv)
    w, eps = vars(self.w), self.c["norm_eps"]
    return {
      b: rms_norm(w.get("norm_shared") or w[f"norm_{b}"], x, eps)
      for b, x in xs.items()
    }, (key, kept)

  def block(self, w: dict, xs: dict, ids: dict, mask, old):
    """A layer: (xs after it, its keys and values behind the `old` ones)."""
    eps, heads = self.c["norm_eps"], (-1, self.c["head_dim"])
    qs, ks, vs = [], [old[0]] if old else [], [old[1]] if old else []  # type: list, list, list
    for b, x_BLD in xs.items():
      h, qk = rms_norm(w[b].attn_norm, x_BLD, eps), w[b].qk
      for m, norm, to in ((qk.q, qk.q_norm, qs), (qk.k, qk.k_norm, ks)):
        y = rms_norm(norm, linear(m, h).unflatten(2, heads), eps)
        to.append(self.rotate(y, ids[b][4]))
      vs.append(linear(w[b].v, h).unflatten(2, heads))
    q, k, v = (torch.cat(x, 1) for x in (qs, ks, vs))
    y = self.attend(*(x.transpose(1, 2) for x in (q, k, v)), mask)  # type: ignore[call-arg]  # three
    y = y.transpose(1, 2).flatten(2).split([x.shape[1] for x in xs.values()], 1)
    out = {}
    for (b, x_BLD), mixed in zip(xs.items(), y):
      x, m = x_BLD + linear(w[b].o, mixed), w[b].mlp
      h = rms_norm(w[b].mlp_norm, x, eps)
      out[b] = x + linear(m.down, F.silu(linear(m.gate, h)) * linear(m.up, h))
    return out, (k, v)

  def rotate(self, x_BLHE, position_BL):
    """Rotary positions: the first half of a head with the second."""
    E = x_BLHE.shape[-1]
    exponent = torch.arange(0, E, 2, device=x_BLHE.device).float() / E
    inverse = 1.0 / self.c["rope_theta"] ** exponent
    angle = position_BL.float()[:, :, None, None] * inverse
    cos, sin = angle.cos().to(x_BLHE.dtype), angle.sin().to(x_BLHE.dtype)
    a, b = x_BLHE.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Tokenizer:
  """Longest match over a list of pieces, bytes where none fits; or, where the
  file is a Hugging Face tokenizer.json, the package `tokenizers`."""

  def __init__(self, path: Path):
    about = json.loads(path.read_text(encoding="utf-8"))
    if "pieces" not in about:
      import tokenizers  # only full-size models need it

      model = tokenizers.Tokenizer.from_file(str(path))
      model.encode_special_tokens = True  # typed by users, they are text
      self.special, self.decode = model.token_to_id, model.decode  # type: ignore[method-assign]  # the package's
      self.encode = lambda x: model.encode(x, add_special_tokens=False).ids  # type: ignore[method-assign,assignment]  # the package's
      return
    self.special, self.first = about["special"].get, about["first"]
    self.pieces = about["pieces"]
    self.ids = {p: self.first + 256 + i for i, p in enumerate(self.pieces)}
    self.longest = max(map(len, self.pieces), default=0)

  def encode(self, text: str) -> list[int]:
    """Token ids; what looks like a special token is text too."""
    ids = []
    while text:
      lengths = range(min(self.longest, len(text)), 0, -1)
      n = next((n for n in lengths if text[:n] in self.ids), 0)
      ids += (
        [self.ids[text[:n]]]
        if n
        else [self.first + b for b in text[0].encode("utf-8", "surrogatepass")]
      )
      text = text[max(n, 1) :]
    return ids

  def decode(self, ids: list[int]) -> str:
    """The text of token ids, special ones left out."""
    known = [bytes([b]) for b in range(256)] + [p.encode() for p in self.pieces]
    places = (i - self.first for i in ids)
    data = b"".join(known[i] for i in places if 0 <= i < len(known))
    return data.decode("utf-8", "replace")


class Emma:
  """Pictures go in as paths, PIL images or uint8 arrays, and come out as floats
  (rows, columns, 3) in [0, 1]; `to_image` makes PIL images of those."""

  def __init__(self, about: dict, w, tokenizer: Tokenizer):
    self.c, self.data, self.sample = (
      about["config"][name] for name in ("model", "data", "sample")
    )
    self.w, self.route, self.tokenizer = w, about["route"], tokenizer
    self.autoencoder = Autoencoder(w.autoencoder, self.c["autoencoder"])
    self.vision = VisionTower(w.vision, self.c["vision"])
    self.llm, x = Llm(w.llm, self.c["llm"]), w.llm.embed.weight
    self.device, self.dtype = x.device, x.dtype

  @classmethod
  def load(cls, folder, device="cpu", dtype=torch.float32):
    """Of an exported folder; what must be exact stays float32 in any dtype."""
    folder, w = Path(folder), SimpleNamespace()
    about = json.loads((folder / "config.json").read_text())
    if about.get("format") != FORMAT:
      raise ValueError(f"{folder} is not {FORMAT}; use its own emma_torch.py.")
    for file in sorted(folder.glob("*.safetensors")):
      for name, x in load_file(file, device).items():
        node, (*path, leaf) = w, name.split(".")
        for step in path:
          node = vars(node).setdefault(step, SimpleNamespace())
        exact = name.startswith(EXACT)
        setattr(node, leaf, x.to(torch.float32 if exact else dtype))
    return cls(about, w, Tokenizer(folder / "tokenizer.json"))

  def ask(self, pictures, questions, max_tokens: int | None = None):
    """Greedy answers: to one question, or to several that follow each other.
    The pictures, one or a list, stand before the first."""
    one = isinstance(questions, str)
    pictures = pictures if isinstance(pictures, (list, tuple)) else [pictures]
    shown = [("und", self.fit(picture)[0]) for picture in pictures]
    head = vars(self.w.llm).get("lm_head", self.w.llm.embed)  # may be tied
    eos = self.tokenizer.special("<|im_end|>")
    answers, parts, cache = [], [], None
    for question in [questions] if one else questions:
      parts += self.message(*shown, question)
      hidden, cache = self.read(parts, self.route, cache)
      said = []  # type: list[int]
      while len(said) < (max_tokens or self.sample["max_tokens"]):
        token = int(linear(head, hidden["und"][0, -1]).argmax())
        if token == eos:
          break
        said.append(token)
        hidden, cache = self.read([token], cache=cache)
      answers.append(self.tokenizer.decode(said))
      shown, parts = [], [eos, "\n"]
    return answers[0] if one else answers

  def draw(self, prompt: str, *, size=None, noise=None, seed=0, **changes):
    """A picture of `size` (rows, columns). noise: (T, C), instead of `seed`;
    changes: of config.sample (steps, shift, text_guidance)."""
    size = size or (self.data["height"], self.data["width"])
    s = self.sample | changes
    g = s["text_guidance"]
    contexts = [(g, self.message(prompt)), (1 - g, self.message(""))]
    made = self.generate(contexts, size, s, noise, seed)
    return made[: size[0], : size[1]]

  def edit(self, picture, instruction: str, *, noise=None, seed=0, **changes):
    """The picture after the instruction, in its own size; see `draw`."""
    pixels, content, original = self.fit(picture)
    s, shown = self.sample | changes, ("ref", pixels)
    text, image = s["edit_text_guidance"], s["edit_image_guidance"]
    contexts = [
      (text, self.message(shown, instruction)),
      (image - text, self.message(shown, "")),
      (1 - image, self.message("")),
    ]
    made = self.generate(contexts, pixels.shape[:2], s, noise, seed)
    made = made[: content[1], : content[0]].movedim(-1, 0)[None]
    made = F.interpolate(made, original[::-1], mode="bicubic", antialias=True)
    return made[0].movedim(0, -1).clamp(0, 1)

  def message(self, *said) -> list:
    """A user's turn, up to where the answer begins."""
    start, end, left, right = map(
      self.tokenizer.special,
      ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
    )
    said = [[x] if isinstance(x, str) else [left, x, right] for x in said]  # type: ignore[assignment]  # lists of what it was
    return [start, "user\n", *sum(said, []), end, "\n", start, "assistant\n"]

  def generate(self, contexts, size, s: dict, noise, seed: int):
    """Euler steps along the contexts' weighted velocities, then pixels."""
    if len(s) > len(self.sample):
      raise TypeError(f"{[*s]}: only {[*self.sample]} are settings.")
    grid = tuple(math.ceil(n / GRID) for n in size)
    shape = (1, math.prod(grid), self.c["autoencoder"]["latent_channels"])
    if noise is None:
      noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    x = torch.as_tensor(noise).to(self.device, torch.float32).reshape(shape)
    t = torch.linspace(1, 0, s["steps"] + 1, dtype=torch.float64)
    t = (s["shift"] * t / (1 + (s["shift"] - 1) * t)).to(x)
    begin = self.tokenizer.special("<|vision_start|>")
    caches = [(g, self.read([*said, begin])[1]) for g, said in contexts if g]
    for now, then in zip(t, t[1:]):
      tokens = self.adapt("gen", None, x.to(self.dtype), grid)
      tokens = tokens + self.embed_time(now[None])[:, None]
      v = 0
      for weight, cache in caches:
        ids = self.ids(cache[0].shape[2], shape[1], both=True, noisy=1)
        hidden, _ = self.llm({"gen": tokens}, {"gen": ids}, cache)
        v = v + weight * linear(self.w.heads.velocity, hidden["gen"].float())
      x = x + (then - now) * v
    picture = self.autoencoder.decode(x.to(self.dtype), grid)[0].float()
    return ((picture + 1) / 2).clamp(0, 1).movedim(0, -1)

  def read(self, parts: list, route="versatile", cache=None):
    """Hidden states of more parts (text, token ids, or ("und" or "ref",
    pixels)), and the cache with them."""
    start, xs, ids = cache[0].shape[2] if cache else 0, {}, {}  # type: int, dict, dict
    for kind, run in itertools.groupby(parts, type):
      group, branch, both = list(run), "und", False
      if kind is tuple:
        pixels, both = group[0][1], group[0][0] == "ref"
        branch = self.c["fusion"]["reference_branch"] if both else "und"
        x = (pixels.to(self.device) / 127.5 - 1).to(self.dtype)
        x, grid = x.movedim(-1, 0)[None], [n // GRID for n in x.shape[:2]]
        semantic = self.vision(x, "versatile" if both else route)
        x = self.adapt(branch, semantic, self.autoencoder.encode(x), grid)
      else:
        tokens = self.tokenizer.encode("".join(group)) if kind is str else group
        tokens = torch.tensor([tokens], dtype=torch.long, device=self.device)
        x = F.embedding(tokens, self.w.llm.embed.weight)
      xs.setdefault(branch, []).append(x)
      ids.setdefault(branch, []).append(self.ids(start, x.shape[1], both))
      start += x.shape[1]
    return self.llm(
      {b: torch.cat(x, 1) for b, x in xs.items()},
      {b: torch.cat(x, 2) for b, x in ids.items()},
      cache,
    )

  def adapt(self, branch: str, semantic_PTC, latent_PTC, grid):
    """LLM tokens of pictures. A noisy target has no semantic tokens (None): a
    learned vector stands for them, or in token fusion nothing."""
    c, w, half = self.c["fusion"], vars(self.w.adapters)[branch], None
    if semantic_PTC is not None:
      half = layer_norm(w.norm, semantic_PTC, c["norm_eps"])
    if c["mode"] == "channel":
      if half is None:
        half = w.null_semantic.expand(*latent_PTC.shape[:2], -1)
      tokens = [two_layers(w.fuse, torch.cat([half, latent_PTC], -1))]
    else:  # all semantic tokens, then all latent ones
      tokens = [] if half is None else [two_layers(w.fuse_semantic, half)]
      tokens.append(two_layers(w.fuse_latent, latent_PTC))
    # Fixed positions: half of the channels tell the row, then half the column.
    quarter = tokens[0].shape[-1] // 4
    exponent = torch.arange(quarter, dtype=torch.float64) / quarter
    frequency = c["position_base"] ** -exponent
    angles = (torch.arange(n)[:, None] * frequency for n in grid)
    y, x = (torch.cat([a.sin(), a.cos()], 1) for a in angles)
    position = (
      c["position_scale"]
      * torch.cat(
        [y.repeat_interleave(grid[1], 0), x.repeat(grid[0], 1)], 1
      ).float()
    )
    return torch.cat([x + position.to(x) for x in tokens], 1)

  def embed_time(self, time_B):
    """What times (B,) in [0, 1] add to a target's tokens: (B, D)."""
    c, w = self.c["fusion"], self.w.adapters.time
    half = c["time_channels"] // 2
    frequency = 10000.0 ** -(torch.arange(half, dtype=torch.float64) / half)
    angle = (time_B * c["time_scale"])[:, None] * frequency.to(time_B)
    x = torch.cat([angle.cos(), angle.sin()], -1).to(self.dtype)
    return two_layers(w, x, F.silu)

  def ids(self, start: int, length: int, both=False, noisy=0):
    """Of causal tokens, or of a picture that sees itself whole; see `Llm`."""
    slot = torch.arange(start, start + length, device=self.device)[None]
    end = torch.full_like(slot, start + length - 1) if both else slot
    one = torch.ones_like(slot)
    return torch.stack([one, slot, end, noisy * one, slot])

  @staticmethod
  def to_image(picture_YXC) -> Image.Image:
    """An 8-bit RGB picture of floats (Y, X, 3) in [0, 1]."""
    x = (picture_YXC * 255).round().to("cpu", torch.uint8)
    return Image.frombytes("RGB", x.shape[1::-1], bytes(x.flatten().tolist()))

  def fit(self, picture):
    """uint8 pixels as in training, resized to fit and padded at right and
    bottom; (width, height) without padding, and of the picture itself."""
    if isinstance(picture, (str, Path)):
      picture = ImageOps.exif_transpose(Image.open(picture))
    elif not isinstance(picture, Image.Image):
      picture = Image.fromarray(picture)
    if picture.mode[0] in "IF":
      raise ValueError(f"Mode {picture.mode}: save the picture with 8 bits.")
    white = Image.new("RGBA", picture.size, "white")  # behind alpha
    rgba = Image.alpha_composite(white, picture.convert("RGBA"))
    picture = rgba.convert("RGB")
    d, full = self.data, (self.data["width"], self.data["height"])
    scale = min(most / n for n, most in zip(picture.size, full))
    if d["native"]:
      scale, full = 1, tuple(GRID * math.ceil(n / GRID) for n in picture.size)
      if not d["min_tokens"] <= math.prod(full) // GRID**2 <= d["max_tokens"]:
        raise ValueError(f"{picture.size} pixels: resize the picture first.")
    content = tuple(
      min(max(1, round(n * scale)), most) for n, most in zip(picture.size, full)
    )
    canvas = Image.new("RGB", full, "white")
    canvas.paste(picture.resize(content, Image.Resampling.BICUBIC))
    pixels = torch.frombuffer(bytearray(canvas.tobytes()), dtype=torch.uint8)
    return pixels.view(*full[::-1], 3), content, picture.size


def main():
  """The command line; see the top of this file."""
  parser = argparse.ArgumentParser(description="Answers, draws and edits.")
  parser.add_argument("task", choices=("ask", "draw", "edit"))
  parser.add_argument("text", help="question, prompt or instruction")
  parser.add_argument("--image", action="append", default=[], type=Path)
  parser.add_argument("--out", default="out.png", type=Path)
  parser.add_argument("--seed", default=0, type=int)
  args = parser.parse_args()
  if args.task != "ask" and len(args.image) != (args.task == "edit"):
    parser.error("edit takes one --image and draw takes none.")
  model = Emma.load(Path(__file__).parent)
  if args.task == "ask":
    print(model.ask(args.image, args.text))
  else:
    make = getattr(model, args.task)
    model.to_image(make(*args.image, args.text, seed=args.seed)).save(args.out)


if __name__ == "__main__":
  main()
