"""Goldens on disk: sketches of arrays in JSON, and the comparison.

Another version of jax or torch, another CPU or number of threads sums in
another order. So floats are compared at a tolerance that the test states:

  FLOAT32    2e-5 of the largest element: sums in another order
  BFLOAT16   3e-3 of the mean element, on the mean over all that are kept: a
             value may round to its neighbour (1/256 of itself) here and there,
             not everywhere
  EXACT      integers, texts, and floats that nothing was summed for
"""

from collections.abc import Callable, Mapping
import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
from pathlib import Path
import platform
import types
from typing import Any

import jax
import numpy as np

DATA = Path(__file__).resolve().parent / "data"
KEPT = 24  # elements of an array; shorter ones are kept whole
LIBRARIES = (
  "jax",
  "jaxlib",
  "flax",
  "numpy",
  "torch",
  "transformers",
  "diffusers",
  "tokenizers",
)


@dataclasses.dataclass(frozen=True)
class Tolerance:
  """How far floats may be off.

  `of_largest` bounds each element's error by a share of the array's largest;
  `of_mean` bounds the mean error by a share of the mean element, both without
  sign.
  """

  of_largest: float | None = None
  of_mean: float | None = None


FLOAT32 = Tolerance(of_largest=2e-5)
BFLOAT16 = Tolerance(of_mean=3e-3)
EXACT = Tolerance(of_largest=0.0)


def digest(data: bytes | str) -> str:
  """Sixteen hex digits of SHA-256."""
  data = data.encode() if isinstance(data, str) else data
  return hashlib.sha256(data).hexdigest()[:16]


def noise(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """Float32 numbers between -1 and 1 that depend on the name and the shape
  alone: made of SHA-256, so that no library's version changes them."""
  size = int(np.prod(shape, dtype=np.int64))
  blocks = [
    hashlib.sha256(f"{name}/{i}".encode()).digest()
    for i in range(-(-size // 16))
  ]
  words = np.frombuffer(b"".join(blocks), "<u2")[:size]
  return ((words.astype(np.float32) + 0.5) / 32768 - 1).reshape(shape)


def sketch(x: Any, kept: int = KEPT) -> dict[str, Any]:
  """What a golden file holds of an array (integers and floats of any width)."""
  x = np.asarray(x)
  out = {"shape": list(x.shape), "dtype": str(x.dtype)}
  if x.dtype.kind in "biu":
    flat = np.ascontiguousarray(x).astype("<i8").ravel()
    out["digest"] = digest(flat.tobytes())
    out["values"] = flat[_places(flat.size, kept)].tolist()
    return out
  flat = x.astype(np.float64).ravel()
  out["norm"] = _rounded(np.sqrt((flat**2).sum()))
  out["signed"] = _rounded((flat * _signs(flat.size)).sum())
  out["values"] = [_rounded(v) for v in flat[_places(flat.size, kept)]]
  return out


def _places(size: int, kept: int) -> np.ndarray:
  if size <= kept:
    return np.arange(size)
  order = noise("places", (size,)).argsort(kind="stable")
  return np.sort(order[:kept])


def _signs(size: int) -> np.ndarray:
  return np.where(noise("signs", (size,)) > 0, 1.0, -1.0)


def _rounded(x: float) -> float:
  return float(f"{x:.9g}")  # float32 exactly


def flatten(tree: Any) -> dict[str, Any]:
  """Leaves by path; texts, numbers and None are leaves as well as arrays."""
  found = jax.tree_util.tree_flatten_with_path(
    tree, is_leaf=lambda x: x is None or isinstance(x, str | bytes)
  )[0]
  return {
    jax.tree_util.keystr(p, simple=True, separator="/"): x for p, x in found
  }


def record(tree: Any, kept: int = KEPT) -> dict[str, Any]:
  """Each leaf as it stands in a golden file."""
  return {path: _leaf(x, kept) for path, x in flatten(tree).items()}


def _leaf(x: Any, kept: int) -> Any:
  if isinstance(x, bytes):
    return {"bytes": len(x), "digest": digest(x)}
  if x is None or isinstance(x, bool | int | float | str):
    return x
  return sketch(x, kept)


def path_of(family: str) -> Path:
  return DATA / f"{family}.json"


def write(family: str, cases: Mapping[str, Any], kept: int = KEPT) -> Path:
  """Writes a family's file: one line per leaf, so that `git diff` reads."""
  versions = {"python": platform.python_version()}
  for name in LIBRARIES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      versions[name] = importlib.metadata.version(name)
  lines = []
  for case, tree in cases.items():
    leaves = [
      f"   {json.dumps(p)}: {json.dumps(x)}"
      for p, x in record(tree, kept).items()
    ]
    lines.append(f"  {json.dumps(case)}: {{\n" + ",\n".join(leaves) + "\n  }")
  path = path_of(family)
  path.parent.mkdir(exist_ok=True)
  path.write_text(
    "{\n "
    f'"command": "python -m tests.goldens {family}",\n '
    f'"versions": {json.dumps(versions)},\n '
    '"cases": {\n' + ",\n".join(lines) + "\n }\n}\n"
  )
  return path


def read(family: str) -> dict[str, dict[str, Any]]:
  """{case: {path: leaf}}."""
  return json.loads(path_of(family).read_text())["cases"]


def check(
  family: str,
  case: str,
  tree: Any,
  tolerance: Tolerance = FLOAT32,
  kept: int = KEPT,
  others: Mapping[str, Tolerance] = types.MappingProxyType({}),
) -> None:
  """Compares a case with its golden; the error lists every leaf that is off.

  `others`: path of a leaf -> its tolerance, where that is not the case's.

  Raises:
    AssertionError: a leaf is missing, new, or further off than `tolerance`.
  """
  want, have = read(family)[case], record(tree, kept)
  wrong = [f"{path}: missing" for path in want.keys() - have.keys()]
  wrong += [f"{path}: not in the golden" for path in have.keys() - want.keys()]
  for path in [p for p in want if p in have]:
    reason = difference(have[path], want[path], others.get(path, tolerance))
    if reason:
      wrong.append(f"{path}: {reason}")
  assert not wrong, (
    f"{family}, {case}: {len(wrong)} of {len(want)} leaves differ from the "
    "golden:\n  "
    + "\n  ".join(wrong[:20])
    + f"\nIf that is meant: python -m tests.goldens {family}"
  )


def difference(have: Any, want: Any, tolerance: Tolerance) -> str | None:
  """Why two leaves of golden files differ; None where they do not."""
  if not (
    isinstance(have, dict)
    and "values" in have
    and isinstance(want, dict)
    and "norm" in want
  ):
    return None if have == want else f"{have!r}, not {want!r}"
  for field in ("shape", "dtype"):
    if have[field] != want[field]:
      return f"{field} {have[field]}, not {want[field]}"
  a, b = (np.asarray(x["values"], np.float64) for x in (have, want))
  numbers = (have["norm"], have["signed"], want["norm"], want["signed"])
  if not all(np.isfinite(x).all() for x in (a, b, numbers)):
    return "not finite"  # a maximum, and any comparison, would let NaN pass
  size = max(int(np.prod(want["shape"])), 1)
  error, scale = np.abs(a - b), np.abs(b)
  if tolerance.of_largest is not None:
    largest = max(scale.max(initial=0.0), want["norm"] / size**0.5)
    if error.max(initial=0.0) > tolerance.of_largest * largest:
      return (
        f"off by {error.max() / max(largest, 1e-300):.1e} of the largest "
        f"element (allowed: {tolerance.of_largest:.0e})"
      )
    allowed = tolerance.of_largest * want["norm"] * 2
  else:
    assert tolerance.of_mean is not None
    if error.mean() > tolerance.of_mean * max(scale.mean(), 1e-300):
      return (
        f"off by {error.mean() / max(scale.mean(), 1e-300):.1e} of the "
        f"mean element (allowed: {tolerance.of_mean:.0e})"
      )
    allowed = tolerance.of_mean * want["norm"] * 2
  for field in ("norm", "signed"):
    if abs(have[field] - want[field]) > allowed:
      return (
        f"{field} {have[field]}, not {want[field]}: elements that the "
        "golden does not hold one by one differ"
      )
  return None


Cases = Callable[[], Mapping[str, Any]]
