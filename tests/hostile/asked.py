"""Configs and requests: what a person may ask for that cannot be."""

from collections.abc import Iterator
import pathlib
import re

from PIL import Image

from tests.build import test_bounds
from tests.cli import test_sample, test_train
from tests.data import hostile
from tests.hostile.measured import Case
from tests.sampling import small

TRAIN = "emma-train"


def configs(folder: pathlib.Path) -> Iterator[Case]:
  """Keys, values and files of configs, met by `emma-train`."""
  (folder / "micro.py").write_text(test_train.CONFIG)
  (folder / "folder.py").mkdir()
  for overrides, words in test_train.MISTAKES:
    yield _trained(" ".join(overrides), "micro.py", overrides, re.escape(words))
  for key, values in test_bounds.ABSURD.items():
    for value in values:
      given = f"--config.{key}={value}"
      yield _trained(given, "tiny", [given], re.escape(f"config.{key}"))
  for i, (name, text) in enumerate(_FILES.items()):
    (folder / f"c{i}.py").write_bytes(text)
    yield _trained(name, f"c{i}.py", [], "")
  yield _trained("no such file", "c.py", [], "")
  yield _trained("a folder", "folder.py", [], "")
  for section in ("model", "data", "train", "stages", "optimizer"):
    given = f"--config.{section}=None"
    yield _trained(given, "tiny", [given], section)


# What is wrong with a file of a config.
_FILES = {
  "of no bytes": b"",
  "no Python": b"def get_config(:\n",
  "NUL bytes": bytes(100),
  "not UTF-8": b'x = "\xff\xfe"\n',
  "without get_config": b"x = 1\n",
  "get_config is no function": b"get_config = 3\n",
  "returns nothing": b"def get_config():\n  pass\n",
  "returns a list": b"def get_config():\n  return [1]\n",
  "raises": b"def get_config():\n  raise KeyError('x')\n",
  "imports what is not there": b"import nothing_of_this_name\n",
  "calls itself": b"def get_config():\n  return get_config()\n",
  "an empty config": b"import ml_collections\n\n"
  b"def get_config():\n  return ml_collections.ConfigDict()\n",
}


def _trained(
  name: str, config: str, overrides: list[str], words: str, code: int = 2
) -> Case:
  return Case(
    name=name,
    command=TRAIN,
    argv=("--config", config, "--workdir", "run", *overrides),
    code=code,
    words=words,
  )


def requests(folder: pathlib.Path) -> Iterator[Case]:
  """Prompts, sizes, pictures and numbers, met by `emma-sample`."""
  weights = test_sample.saved(
    folder / "w.safetensors", small.random_params(small.config()["model"])
  )
  Image.fromarray(small.picture(0, 70, 100)).save(folder / "in.png")
  (folder / "broken.png").write_bytes(b"no picture")
  names = {"BROKEN": "broken.png", "PICTURE": "in.png"}
  for arguments, words in test_sample.MISTAKES:
    command, *rest = [names.get(a, a) for a in arguments]
    said = ".*".join(map(re.escape, words))
    yield _sampled(" ".join(arguments), (command, weights, *rest), said)
  for i, one in enumerate(hostile.pictures()):
    if one.name.startswith(("bomb", "random", "zero", "TIFF whose", "1 :")):
      (folder / f"{i}.png").write_bytes(one.value)
      if one.outcome != hostile.USED:
        asked = ("ask", weights, "--image", f"{i}.png", "--question", "what?")
        yield _sampled(f"of {one.name}", asked, re.escape(one.outcome))
  for flags in _FLAGS:
    yield _sampled(flags, ("draw", weights, *flags.split()), "error: ")


_FLAGS = (
  "--prompt a --out o.png --size 96",
  "--prompt a --out o.png --size 0x0",
  "--prompt a --out o.png --size -64x64",
  "--prompt a --out o.png --shift -1",
  "--prompt a --out o.png --guidance nan",
  "--prompt a --out o.png --guidance 1e400",
  "--prompt a --out o.png --seed -1",
  "--prompt a --out o.png --seed 99999999999999999999",
  "--prompt a --out o.png --steps -5",
  "--prompt a --out /proc/o.png",
  "--prompt a --out /dev/full",
  "--prompt a --out in.png/o.png",
  "--out o.png",
)


def _sampled(name: str, argv: tuple[str, ...], words: str) -> Case:
  name = name if len(name) < 80 else f"{name[:60]}... ({len(name):,} letters)"
  return Case(name=name, command="emma-sample", argv=argv, code=2, words=words)
