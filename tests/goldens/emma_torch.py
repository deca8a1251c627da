"""What an exported EMMA answers, draws and edits in plain PyTorch.

The weights are fixed noise, so that nothing an export or a context leaves out
goes unseen. With the outputs goes a digest of `emma_torch`: who changes that
code makes this golden anew, and so compares it with our sampling again.
"""

import ast
import functools
import importlib
import json
from pathlib import Path
import sys
import tempfile
from typing import Any

import jax
import numpy as np

from emma_jax import rules
from emma_jax.build import model as build_model
from emma_jax.build import session as build_session
from emma_jax.convert import emma as convert
from emma_jax.data.text.tokenizer import TinyTokenizer
from emma_jax.sampling import context
from tests.goldens import store
from tests.sampling import small

KEPT = 16
# A byte of a picture may round to its neighbour here and there, not everywhere.
TOLERANCES = {"picture": store.Tolerance(of_mean=1e-3)}
SEED = 3
PROMPT, INSTRUCTION = "red", "do"
QUESTIONS = ["what?", "why?"]
ANSWER = 16  # tokens at most
# (text, image): in "plain" the contexts weigh 4, -2.5 and -0.5; in "image" the
# reference without the instruction and the empty context outweigh the first.
GUIDANCE = {"plain": (4.0, 1.5), "image": (1.5, 8.0)}


@functools.cache
def config() -> dict:
  return small.config()


@functools.cache
def params() -> dict:
  """Fixed noise around 0, around 1 where a norm scales."""
  out = {}
  for path, leaf in rules.flatten(
    build_model.model(config()["model"]).shapes
  ).items():
    x = store.noise(path, leaf.shape)
    if path.endswith(("scale", "q_norm", "k_norm")):
      out[path] = 1 + np.float32(0.5) * x
    else:
      out[path] = np.float32(0.3) * x
  return rules.unflatten(out)


def picture() -> np.ndarray:
  """uint8 (64, 64, 3)."""
  x = store.noise("emma_torch picture", (64, 64, 3))
  return ((x + 1) * 127.5).astype(np.uint8)


def start() -> np.ndarray:
  """(T, C): what `Session` starts the first picture of a request from."""
  (key,) = context.keys(SEED, [0])
  channels = config()["model"]["autoencoder"]["latent_channels"]
  return np.array(jax.random.normal(key, (4, channels), jax.numpy.float32))


def digest() -> str:
  """Of emma_torch's syntax trees, without comments and docstrings."""
  folder = Path(convert.__file__).with_name(convert.IMPLEMENTATION)
  files = {p.name: ast.parse(p.read_text()) for p in folder.glob("*.py")}
  return store.digest(
    "\n".join(f"{n} {_told(files[n])}" for n in sorted(files))
  )


def _told(node: Any) -> str:
  """A tree as text. `ast.dump` and `ast.unparse` differ between Pythons."""
  if isinstance(node, list):
    return f"[{', '.join(map(_told, node))}]"
  if not isinstance(node, ast.AST):
    return repr(node)
  fields = {k: v for k, v in ast.iter_fields(node) if v not in (None, [])}
  documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
  if isinstance(node, documented) and ast.get_docstring(node) is not None:
    fields["body"] = node.body[1:]
  told = ", ".join(f"{k}={_told(v)}" for k, v in fields.items())
  return f"{type(node).__name__}({told})"


def exported(folder: Path) -> dict[str, str]:
  """Digests of what `save` writes: of a part's tensors the names, shapes and
  bits, of tokenizer.json the content."""
  convert.save(
    folder,
    config(),
    params(),
    TinyTokenizer(),
    build_session.framing(config()),
    route="versatile",
  )
  from safetensors.numpy import load_file

  parts: dict[str, list] = {}
  for name, x in sorted(load_file(folder / "model.safetensors").items()):
    line = f"{name} {x.dtype} {x.shape} {store.digest(x.tobytes())}"
    parts.setdefault(name.split(".")[0], []).append(line)
  out = {part: store.digest("\n".join(x)) for part, x in parts.items()}
  vocabulary = json.loads((folder / convert.TOKENIZER).read_text())
  out["tokenizer"] = store.digest(json.dumps(vocabulary, sort_keys=True))
  return out


# ------------------------------------------------------------- with torch


def cases() -> dict[str, dict[str, Any]]:
  import torch

  with tempfile.TemporaryDirectory() as root:
    folder = Path(root)
    parts = exported(folder)
    out = {
      "file": {"implementation": digest()},
      "export": parts,
      "start": {"noise": start()},
    }
    model = load(folder)
  latents = []
  decode = model.autoencoder.decode
  model.autoencoder.decode = lambda x, grid: (
    latents.append(x.numpy()),
    decode(x, grid),
  )[1]

  def made(picture) -> dict[str, np.ndarray]:
    return {
      "latents": latents.pop()[0],
      "picture": np.array(model.to_image(picture)) / np.float32(255),
    }

  with torch.no_grad():
    for route in ("versatile", "stem"):
      model.route = route
      said = model.ask(picture(), QUESTIONS, max_tokens=ANSWER)
      out[f"ask {route}"] = {str(i): x for i, x in enumerate(said)}
    out["draw"] = made(model.draw(PROMPT, noise=start()))
    for name, (text, image) in GUIDANCE.items():
      out[f"edit {name}"] = made(
        model.edit(
          picture(),
          INSTRUCTION,
          noise=start(),
          edit_text_guidance=text,
          edit_image_guidance=image,
        )
      )
  return out


def load(folder: Path):
  """The model of the exported folder, by its own code."""
  return imported(folder).Emma.load(folder)


def imported(folder: Path, name: str = ""):
  """`import emma_torch` as it is done in that folder, or a module of it."""
  for known in [*sys.modules]:  # of another folder
    if known.partition(".")[0] == convert.IMPLEMENTATION:
      del sys.modules[known]
  sys.path.insert(0, str(folder))
  try:
    return importlib.import_module(convert.IMPLEMENTATION + name)
  finally:
    sys.path.remove(str(folder))
