"""Judges by kind: a server, a file of replies, a detector, a reader, encoders.

Prices and addresses are the user's; none is given here.
"""

import ml_collections
from ml_collections import config_dict


def openai(**changes) -> ml_collections.ConfigDict:
  """A model behind an OpenAI-compatible server, /chat/completions."""
  c = ml_collections.ConfigDict()
  c.kind = "openai"
  # Ends with /v1.
  c.base_url = "http://localhost:8000/v1"
  c.model = ""
  # Environment variable that holds the key.
  c.key_env = "OPENAI_API_KEY"
  c.temperature = 0.0
  c.max_tokens = 1024
  # as_is, png or jpeg, and the longest side they are sent at (0: their own).
  c.picture_format = "png"
  c.side = 0
  # Log-probabilities of the first token, where a protocol asks for them.
  c.top_logprobs = 0
  c.seed = config_dict.placeholder(int)
  # Further keys of the request.
  c.extra = ml_collections.ConfigDict()
  c.retries = 6
  c.timeout = 120.0
  c.concurrency = 8
  # Of a million tokens, in dollars; None: not known.
  c.price = dict(
    input=config_dict.placeholder(float), output=config_dict.placeholder(float)
  )
  # The run stops cleanly before it passes one; 0: no limit.
  c.max_calls = 0
  c.max_usd = 0.0
  # Folder of replies that runs share; "": the run's own.
  c.cache = ""
  # File of calls that `emma-benchmark anchors` kept: each run asks them again
  # and says how far the numbers have moved.
  c.anchors = ""
  for key, value in changes.items():
    c[key] = value
  return c


def precomputed(path: str) -> ml_collections.ConfigDict:
  """Replies made before: JSON lines {"call": id, "text": ...}."""
  return ml_collections.ConfigDict(dict(kind="precomputed", path=path))


def detector(**changes) -> ml_collections.ConfigDict:
  """GenEval's objects: an ONNX model, or a file of detections."""
  c = ml_collections.ConfigDict(dict(kind="detector", model="", detections=""))
  for key, value in changes.items():
    c[key] = value
  return c


def reader() -> ml_collections.ConfigDict:
  """Texts in pictures, by OCR; the extra `scorers`."""
  return ml_collections.ConfigDict(dict(kind="ocr"))


def encoder(**changes) -> ml_collections.ConfigDict:
  """CLIP and DINO from ONNX files of the user."""
  c = ml_collections.ConfigDict(
    dict(kind="encoder", clip_image="", clip_text="", tokenizer="")
  )
  for key, value in changes.items():
    c[key] = value
  return c
