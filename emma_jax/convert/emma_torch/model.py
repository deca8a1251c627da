"""The whole model: loads an exported folder; answers, draws and edits."""

import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace

from safetensors.torch import load_file
import torch
import torch.nn.functional as F

from .autoencoder import Autoencoder
from .chat import message, placed
from .llm import Llm
from .pictures import (
  GRID,
  centre,
  drawn_size,
  fit,
  resized,
  result_size,
  to_image,
)
from .primitives import finite, layer_norm, linear, two_layers
from .tokenizer import Tokenizer
from .vision import VisionTower

FORMAT = "emma-torch-2"
EXACT = ("heads.", "vision.router.", "autoencoder.latent.")  # always float32
CONTEXT = (
  4096  # tokens of a request, of files that do not say sample.max_context
)
CHARACTERS = 128  # of a token, at most


class Emma:
  """Pictures go in as paths, PIL images or uint8 arrays, and come out as floats
  (rows, columns, 3) in [0, 1]; `to_image` makes PIL images of those."""

  def __init__(self, about: dict, w, tokenizer: Tokenizer):
    self.c, self.sample = about["config"]["model"], about["config"]["sample"]
    self.framing = about["framing"]
    self.w, self.route, self.tokenizer = w, about["route"], tokenizer
    self.autoencoder = Autoencoder(w.autoencoder, self.c["autoencoder"])
    self.vision = VisionTower(w.vision, self.c["vision"])
    self.llm, x = Llm(w.llm, self.c["llm"]), w.llm.embed.weight
    self.device, self.dtype = x.device, x.dtype
    self.answer_ids = torch.cat([torch.arange(*r) for r in about["answer_ids"]])
    self.max_context = self.sample.get("max_context", CONTEXT)

  @classmethod
  def load(cls, folder, device="cpu", dtype=torch.float32):
    """Of an exported folder; what must be exact stays float32 in any dtype."""
    folder, w = Path(folder), SimpleNamespace()
    about = json.loads((folder / "config.json").read_text("utf-8"))
    if about.get("format") != FORMAT:
      raise ValueError(f"{folder} is not {FORMAT}; use its own emma_torch.")
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
    The pictures, one or a list, stand before the first, or at its marks."""
    one = isinstance(questions, str)
    pictures = pictures if isinstance(pictures, (list, tuple)) else [pictures]
    bucket, shown = None, []
    for picture in pictures:  # all in the bucket of the first
      shown.append(("und", self.fit(picture, "und", bucket)[0]))
      bucket = bucket or tuple(shown[0][1].shape[:2])
    limit = self.sample["max_tokens"] if max_tokens is None else max_tokens
    if limit < 1:
      raise ValueError(f"{max_tokens=} must be positive.")
    if limit > self.max_context:
      raise ValueError(f"max_tokens={limit} is more than {self.max_context}.")
    eos, turns = self.tokenizer.special("<|im_end|>"), list[list]()
    for question in [questions] if one else questions:
      parts = [eos, "\n"] if turns else []
      turns.append([*parts, *self.message(*placed(question, shown))])
      shown = []
    self.check_size("The conversation", itertools.chain(*turns))
    answers, cache = [], None
    for parts in turns:
      hidden, cache = self.read(parts, self.route, cache)
      said: list[int] = []
      while len(said) < limit:
        token = self.likeliest(hidden["und"][0, -1])
        if token == eos:
          break
        said.append(token)
        hidden, cache = self.read([token], cache=cache)
      answers.append(self.tokenizer.decode(said))
    return answers[0] if one else answers

  def draw(self, prompt: str, *, size=None, noise=None, seed=0, **changes):
    """A picture of `size` (rows, columns), drawn in the trained size of the
    nearest shape. noise: (T, C), instead of `seed`; changes: of config.sample
    (steps, shift, text_guidance)."""
    rule = self.framing["generation"]
    y, x = size = size or (rule["height"], rule["width"])
    frame = drawn_size(y, x, self.framing)
    s = self.sample | changes
    g = s["text_guidance"]
    contexts = [(g, self.message(prompt)), (1 - g, self.message(""))]
    made = self.generate(contexts, frame, s, noise, seed)
    return resized(made, size, centre(frame[0], frame[1], y, x))

  def edit(self, pictures, instruction: str, *, noise=None, seed=0, **changes):
    """The picture after the instruction, in its own size; see `draw`. Of a list
    of pictures, in the order in which the instruction counts them, one picture
    is made, in the size of the first."""
    one = not isinstance(pictures, (list, tuple))
    first, *others = [pictures] if one else pictures
    pixels, content, original = self.fit(first, "ref")
    bucket = tuple(pixels.shape[:2])
    shown = [("ref", pixels)]
    shown += [("ref", self.fit(x, "ref", bucket)[0]) for x in others]
    s = self.sample | changes
    text, image = s["edit_text_guidance"], s["edit_image_guidance"]
    contexts = [
      (text, self.message(*shown, instruction)),
      (image - text, self.message(*shown, "")),
      (1 - image, self.message("")),
    ]
    frame = result_size(self.framing["generation"], content, bucket)
    made = self.generate(contexts, frame, s, noise, seed)
    return resized(made[: content[0], : content[1]], original)

  def likeliest(self, hidden_D) -> int:
    """The next token of an answer: no mark, no id that the vocabulary lacks."""
    head = vars(self.w.llm).get("lm_head", self.w.llm.embed)  # may be tied
    ids = self.answer_ids.to(self.device)
    logits = finite(linear(head, hidden_D)[ids], "An answer", self.dtype)
    return int(ids[logits.argmax()])

  def message(self, *said) -> list:
    """A user's turn, up to where the answer begins."""
    return message(self.tokenizer.special, *said)

  def generate(self, contexts, size, s: dict, noise, seed: int):
    """Euler steps along the contexts' weighted velocities, then pixels."""
    if len(s) > len(self.sample):
      raise TypeError(f"{[*s]}: only {[*self.sample]} are settings.")
    used = {k: s[k] for k in s if k.endswith(("steps", "shift", "guidance"))}
    if s["steps"] < 1 or not all(map(math.isfinite, used.values())):
      raise ValueError(f"{used}: steps must be positive, and all be finite.")
    grid = tuple(math.ceil(n / GRID) for n in size)
    shape = (1, math.prod(grid), self.c["autoencoder"]["latent_channels"])
    if noise is None:
      noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    x = torch.as_tensor(noise).to(self.device, torch.float32).reshape(shape)
    t = torch.linspace(1, 0, s["steps"] + 1, dtype=torch.float64)
    t = (s["shift"] * t / (1 + (s["shift"] - 1) * t)).to(x)
    begin = self.tokenizer.special("<|vision_start|>")
    contexts = [(g, [*said, begin]) for g, said in contexts]
    for _, said in contexts:
      self.check_size("The request", said)
    caches = [(g, self.read(said)[1]) for g, said in contexts if g]
    for now, then in itertools.pairwise(t):
      tokens = self.adapt("gen", None, x.to(self.dtype), grid)
      tokens = tokens + self.embed_time(now[None])[:, None]
      v = 0
      for weight, cache in caches:
        ids = self.ids(cache[0].shape[2], shape[1], both=True, noisy=1)
        hidden, _ = self.llm({"gen": tokens}, {"gen": ids}, cache)
        v = v + weight * linear(self.w.heads.velocity, hidden["gen"].float())
      x = x + (then - now) * v
    finite(x, "A picture", self.dtype)
    picture = self.autoencoder.decode(x.to(self.dtype), grid)[0].float()
    finite(picture, "A picture", self.dtype)
    return ((picture + 1) / 2).clamp(0, 1).movedim(0, -1)

  def check_size(self, name: str, parts) -> None:
    """Raises ValueError for parts of more than `max_context` tokens, before one
    is computed; a reference outside of the Und branch is not counted."""
    tokens, most = 0, self.max_context
    for kind, run in itertools.groupby(parts, type):
      if kind is str:
        text = "".join(run)
        if len(text) > most * CHARACTERS:
          raise ValueError(f"{name} has {len(text)} characters; shorten it.")
        tokens += len(self.tokenizer.encode(text))
        continue
      c = self.c["fusion"]
      of_picture = 1 if c["mode"] == "channel" else 2
      for x in run:
        if kind is int:
          tokens += 1
        elif x[0] == "und" or c["reference_branch"] == "und":
          cells = (math.ceil(n / GRID) for n in x[1].shape[:2])
          tokens += of_picture * math.prod(cells)
    if tokens > most:
      raise ValueError(
        f"{name} takes {tokens} tokens, pictures included; at most "
        f"sample.max_context={most} of them fit. Shorten it."
      )

  def read(self, parts: list, route="versatile", cache=None):
    """Hidden states of more parts (text, token ids, or ("und" or "ref",
    pixels)), and the cache with them."""
    start: int = cache[0].shape[2] if cache else 0
    xs: dict[str, list] = {}
    ids: dict[str, list] = {}
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

  def fit(self, picture, role="und", bucket=None):
    """As in training, see `pictures.fit`."""
    return fit(picture, self.framing, role, bucket)

  to_image = staticmethod(to_image)
