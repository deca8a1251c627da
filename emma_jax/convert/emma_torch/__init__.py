"""EMMA (arXiv 2512.04810) in plain PyTorch: answers, draws and edits.

  python -m emma_torch ask "what colour is the star?" --image star.png
  python -m emma_torch draw "a red star" --out star.png
  python -m emma_torch edit "make the star blue" --image star.png --out blue.png

An edit of several pictures takes an --image for each, in the order in which the
instruction counts them.

config.json, model*.safetensors and tokenizer.json lie beside this folder, where
these commands are given; torch, safetensors and pillow are all it needs, and
tokenizers where the vocabulary is Qwen3's. The commands end with 0, 2 after a
mistake, 76 where a result is not finite. From Python: `from emma_torch import
Emma`, then `Emma.load(folder)`.

`w` are weights, a tree of the names in the files, and `c` a part's section of
the config. A tensor's name ends in its axes: B rows, L tokens, H heads, D E
widths, P pictures, T tokens of a picture (row-major), C channels, Y X pixels.
"""

from .autoencoder import Autoencoder
from .llm import Llm
from .model import Emma
from .primitives import NotFinite
from .tokenizer import Tokenizer
from .vision import VisionTower

__all__ = [
  "Autoencoder",
  "Emma",
  "Llm",
  "NotFinite",
  "Tokenizer",
  "VisionTower",
]
