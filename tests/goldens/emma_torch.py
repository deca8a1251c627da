"""What an exported EMMA answers, draws and edits in plain PyTorch.

The weights are fixed noise, so that nothing an export or a context leaves out
goes unseen. With the outputs goes a digest of `emma_torch.py`: who changes that
file makes this golden anew, and so compares it with our sampling again.
"""

import ast
import functools
import importlib.util
from pathlib import Path
import sys
import tempfile
from typing import Any

import numpy as np

from emma_jax import build, rules
from emma_jax.convert import emma as convert
from emma_jax.data.tokenizer import TinyTokenizer
from tests.goldens import store
from tests.sampling import small

KEPT = 16
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
      build.model(config()["model"]).shapes).items():
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


def noise() -> np.ndarray:
  """(T, C), where drawing starts: float32, but with no rounding left."""
  return store.noise("emma_torch start", (4, 8)) * np.float32(1.5)


def digest() -> str:
  """Of what emma_torch.py does: comments and blank lines are left out."""
  path = Path(convert.__file__).with_name(convert.IMPLEMENTATION)
  tree = ast.parse(path.read_text())
  for node in ast.walk(tree):  # docstrings too
    if (isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and ast.get_docstring(node) is not None):
      node.body = node.body[1:] or [ast.Pass()]
  return store.digest(ast.unparse(tree))


def exported(folder: Path) -> dict[str, str]:
  """Digests of the tensors `save` writes, by part: names, shapes, bits."""
  convert.save(folder, config(), params(), TinyTokenizer(), route="versatile")
  from safetensors.numpy import load_file

  parts: dict[str, list] = {}
  for name, x in sorted(load_file(folder / "model.safetensors").items()):
    line = f"{name} {x.dtype} {x.shape} {store.digest(x.tobytes())}"
    parts.setdefault(name.split(".")[0], []).append(line)
  return {part: store.digest("\n".join(x)) for part, x in parts.items()}


# ------------------------------------------------------------- with torch


def cases() -> dict[str, dict[str, Any]]:
  import torch

  with tempfile.TemporaryDirectory() as root:
    folder = Path(root)
    parts = exported(folder)
    out = {"file": {"implementation": digest()}, "export": parts}
    model = load(folder)
  latents = []
  decode = model.autoencoder.decode
  model.autoencoder.decode = lambda x, grid: (
      latents.append(x.numpy()), decode(x, grid))[1]

  def made(picture) -> dict[str, np.ndarray]:
    return {"latents": latents.pop(), "picture": picture.numpy()}

  with torch.no_grad():
    for route in ("versatile", "stem"):
      model.route = route
      said = model.ask(picture(), QUESTIONS, max_tokens=ANSWER)
      out[f"ask {route}"] = {str(i): x for i, x in enumerate(said)}
    out["draw"] = made(model.draw(PROMPT, noise=noise()))
    for name, (text, image) in GUIDANCE.items():
      out[f"edit {name}"] = made(model.edit(
          picture(), INSTRUCTION, noise=noise(), edit_text_guidance=text,
          edit_image_guidance=image))
  return out


def load(folder: Path):
  """The model of the exported folder, by its own file."""
  spec = importlib.util.spec_from_file_location(
      "exported_emma", folder / convert.IMPLEMENTATION)
  module = importlib.util.module_from_spec(spec)
  sys.modules[spec.name] = module
  spec.loader.exec_module(module)
  return module.Emma.load(folder)
