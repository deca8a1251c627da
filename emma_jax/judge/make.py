"""Judges from sections of a config."""

from collections.abc import Mapping
from typing import Any

from emma_jax.judge.base import Judge
from emma_jax.judge.cached import Cached
from emma_jax.judge.ledger import Price
from emma_jax.judge.limited import Limited
from emma_jax.judge.openai import OpenAIJudge
from emma_jax.judge.precomputed import NoJudge, Precomputed

# Of `OpenAIJudge`, which says what they mean.
_SETTINGS = (
  *("base_url", "model", "key_env", "temperature", "max_tokens"),
  *("picture_format", "side", "top_logprobs", "seed", "extra"),
  *("retries", "timeout", "concurrency"),
)
# Of `Limited`. price: {input, output}, of a million tokens; None: not known.
_BUDGET = ("price", "max_calls", "max_usd")
PRICE_KEYS = ("input", "output")

# kind -> the keys that a section of this kind needs, beside "kind".
KEYS: Mapping[str, tuple[str, ...]] = {
  "openai": (*_SETTINGS, *_BUDGET),
  "precomputed": ("path",),
  "none": (),
}


def make(section: Mapping[str, Any], folder: str = "") -> Judge:
  """A judge, with its budget, and with its replies kept.

  Args:
    section: plain dictionaries: "kind", and all keys of this kind. Those of
      other kinds may be there, so that one section can become another.
    folder: of the replies of servers; "" keeps none. See `cached.ask`.

  Raises:
    ValueError: an unknown or a missing key, or a wrong value.
    OSError: there is no such file of replies.
  """
  if not isinstance(section, Mapping):
    raise ValueError(
      f"{section!r:.80} is no dictionary; see ConfigDict.to_dict"
    )
  kind: Any = section.get("kind")
  if kind not in KEYS:
    raise ValueError(f"{kind=!r} of a judge is none of {', '.join(KEYS)}.")
  known = ["kind", *(key for keys in KEYS.values() for key in keys)]
  if unknown := sorted(set(section) - set(known)):
    raise ValueError(
      f"A judge has no {', '.join(unknown)}; there are {', '.join(known)}."
    )
  if missing := [key for key in KEYS[kind] if key not in section]:
    raise ValueError(
      f"A judge of the kind {kind!r} needs {', '.join(missing)} too; its keys "
      f"are {', '.join(KEYS[kind])}."
    )
  if kind == "none":
    return NoJudge()
  if kind == "precomputed":
    return Precomputed(section["path"])
  judge = _limited(section)
  return Cached(judge, folder) if folder else judge


def _limited(section: Mapping[str, Any]) -> Judge:
  settings = {key: section[key] for key in _SETTINGS}
  judge = OpenAIJudge(**settings)
  price = _price(section["price"])
  max_calls, max_usd = section["max_calls"], section["max_usd"]
  if not max_calls and not max_usd:
    return judge
  return Limited(
    judge,
    max_calls=max_calls,
    max_usd=max_usd,
    price=price,
    most_tokens=judge.most_tokens,
  )


def _price(section: Mapping[str, Any]) -> Price:
  if not isinstance(section, Mapping) or set(section) != set(PRICE_KEYS):
    raise ValueError(
      f"price={section!r} has to have {' and '.join(PRICE_KEYS)}: of a million "
      "tokens, None where it is not known."
    )
  for name in PRICE_KEYS:
    value = section[name]
    if value is not None and not (
      isinstance(value, int | float) and value >= 0
    ):
      raise ValueError(f"price.{name}={value!r} is no price; None: not known.")
  return Price(input=section["input"], output=section["output"])
