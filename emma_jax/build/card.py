"""The model card of an exported folder: README.md, as the hub shows it.

All of it is read from the weights' own config and metadata; what they do not
say stands as unknown, and nothing is made up.
"""

from collections.abc import Iterator, Mapping
import json
import math
import os
import pathlib
import shlex
from typing import Any

from emma_jax import rules
from emma_jax.build.session import Source
from emma_jax.checkpoints import locate
from emma_jax.convert import published

NAME = "README.md"
_TASKS = ("understanding", "drawing", "editing")
# Part -> (library, class, subtrees of the parameters).
_PARTS: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
  "und": ("transformers", "AutoModelForCausalLM", ("llm",)),
  "vision": ("transformers", "SiglipVisionModel", ("vision",)),
  "autoencoder": ("diffusers", "AutoencoderDC", ("autoencoder",)),
}
_WHAT = {
  "und": "the understanding branch of an EMMA, as a Qwen3",
  "vision": "one expert of an EMMA's vision tower, as a SigLIP",
  "autoencoder": "the autoencoder of an EMMA, a DC-AE",
  "emma": "an EMMA (arXiv 2512.04810), which answers questions about pictures, "
  "draws them and edits them; with an implementation in plain PyTorch",
}


def usage(part: str, out: str | os.PathLike) -> list[str]:
  """Commands that use an exported folder, one a line."""
  folder = shlex.quote(str(out))
  if part != "emma":
    library, name, _ = _PARTS[part]
    call = f"{name}.from_pretrained({str(out)!r})"
    return [f'python -c "from {library} import {name}; {call}"']
  there = [f"cd {folder}"] if folder != "." else []
  return [
    f'emma-sample draw --checkpoint {folder} --prompt "a red star" '
    "--out star.png",
    "# In PyTorch (torch, safetensors, pillow):",
    *there,
    'python -m emma_torch draw "a red star" --out star.png',
    'python -m emma_torch ask "what colour is the star?" --image star.png',
    'python -m emma_torch edit "make the star blue" --image star.png '
    "--out blue.png",
  ]


def card(source: Source, part: str) -> str:
  """The page of what `exchange.export` writes, in Markdown.

  Folders of this machine are named by their last part alone: cards are public.

  Args:
    source: of `session.read`.
    part: one of `exchange.PARTS`.
  """
  lines = [
    *_head(source, part),
    f"# {_title(source)}",
    "",
    f"This is {_WHAT[part]}.",
    "",
    *_section("Use, in this folder", ["```bash", *usage(part, "."), "```"]),
    *_section("What is in it", _content(source, part)),
    *_section("What it was trained on", _training(source)),
    *_section("Scores", _scores(source)),
    *_section("Licence", _licence(source)),
  ]
  return "\n".join(lines).rstrip() + "\n"


def _section(title: str, lines: Any) -> list[str]:
  return [f"## {title}", "", *lines, ""]


def _title(source: Source) -> str:
  name = source.config.get("name") or pathlib.Path(source.name).name
  return f"{name}, step {source.step:,}"


def _bases(source: Source) -> list[published.Published]:
  """Published parts that the weights started from."""
  model = source.config["model"]
  published_start = "origins" in source.meta or "initial" in source.config
  if model["kind"] != "emma" or not published_start:
    return []
  return published.of_model(model)


def _head(source: Source, part: str) -> list[str]:
  """What the hub reads."""
  library = "pytorch" if part == "emma" else _PARTS[part][0]
  lines = ["---", f"library_name: {library}"]
  if source.name in locate.SHIPPED:
    lines.append("license: apache-2.0")
  if bases := _bases(source):
    lines += ["base_model:", *(f"- {p.repository}" for p in bases)]
  if part == "emma":
    lines.append("pipeline_tag: any-to-any")
  return [*lines, "tags:", "- emma", "- arxiv:2512.04810", "---", ""]


def _content(source: Source, part: str) -> Iterator[str]:
  """Parameters by subtree; sizes of pictures; how sampling is set."""
  sums: dict[str, int] = {}
  trees = None if part == "emma" else _PARTS[part][2]
  for path, leaf in rules.flatten(source.params).items():
    top = path.split("/")[0]
    if trees is None or top in trees:
      sums[top] = sums.get(top, 0) + math.prod(leaf.shape)
  yield "| of the checkpoint | parameters |"
  yield "|---|---|"
  yield from (f"| {name} | {n:,} |" for name, n in sums.items())
  yield f"| all | {sum(sums.values()):,} |"
  if part == "und":
    yield ""
    yield "Of the language model one branch, and what both share, is in here."
  if part == "vision":
    yield ""
    yield "Of the vision tower one expert is in here."
  if part != "emma":
    return
  data, sample = source.config["data"], source.config["sample"]
  sizes = data["buckets"] or [(data["height"], data["width"])]
  yield ""
  yield f"- Pictures it draws: {', '.join(f'{y}x{x}' for y, x in sizes)}."
  native = "at their own sizes" if data["native"] else "fitted to these sizes"
  yield f"- Pictures it is asked about: {native}."
  yield f"- Expert of its vision tower for questions: {source.route}."
  yield (
    f"- Sampling: {sample['steps']} steps; guidance {sample['text_guidance']}"
    f" of drawings, {sample['edit_text_guidance']} and"
    f" {sample['edit_image_guidance']} of edits."
  )


def _public(where: str) -> str:
  """A place of this machine by its last part.

  >>> _public("records:/home/me/data/und"), _public("world:drawing:train")
  ('records:und', 'world:drawing:train')
  """
  kind, mark, path = where.rpartition(":")
  return f"{kind}{mark}{path.rstrip('/').rpartition('/')[2]}"


def _training(source: Source) -> Iterator[str]:
  """The stages that are done, and where their samples come from."""
  config, meta = source.config, source.meta
  if "origins" in meta:
    yield "Nothing yet: published parts put together, the rest random:"
    yield ""
    found: dict[str, list[str]] = {}
    for tree, name, _ in meta["origins"]:
      found.setdefault(_public(name), []).append(f"`{tree}`")
    yield from (
      f"- {name}: {', '.join(trees)}" for name, trees in found.items()
    )
    return
  stages = list(config.get("stages", {}))
  last = meta.get("stage")
  if last in stages:
    yield "| stage | steps | sources |"
    yield "|---|---|---|"
    for name in stages[: stages.index(last) + 1]:
      stage = config["stages"][name]
      done = stage["steps"] if name != last else meta.get("stage_step", 0)
      mixed = {task for _, tasks, *_ in stage["mixture"] for task in tasks}
      from_where = ", ".join(sorted(mixed))
      yield f"| {name} | {done or stage['steps']:,} | {from_where} |"
    yield ""
  sources = config.get("data", {}).get("sources", {})
  yield from (f"- {name}: `{_public(x)}`" for name, x in sources.items())
  if not stages and not sources:
    yield "Its metadata do not say."
  if meta.get("note"):
    yield f"\nMade by: {meta['note']}"


def _scores(source: Source) -> Iterator[str]:
  """Of the weights' metadata, or of the run's folder."""
  scores: Any = source.meta.get("scores")
  file = pathlib.Path(source.name) / "scores.json"
  if scores is None and file.is_file():
    scores = json.loads(file.read_text("utf-8"))
  found = [t for t in _TASKS if isinstance((scores or {}).get(t), Mapping)]
  found = [t for t in found if "score" in scores[t]]
  if not found:
    yield "None are known: `emma-evaluate --checkpoint FOLDER` measures some."
    return
  yield "| held-out task | score | n |"
  yield "|---|---|---|"
  for task in found:
    one = scores[task]
    yield f"| {task} | {one['score']:.3f} | {one.get('n', 'not said')} |"
  settings = scores.get("settings", {})
  where = (
    settings.get("sources") or f"the world's split {settings.get('split')}"
  )
  yield f"\nOf the whole model, by `emma-evaluate` on {where}; 1 is the best."


def _licence(source: Source) -> Iterator[str]:
  if source.name in locate.SHIPPED:
    yield "Weights and code: Apache-2.0, as the package that ships them."
    return
  bases = _bases(source)
  if bases:
    yield "The weights started from"
    yield ""
    yield from (
      f"- [{p.repository}]({p.page}): {p.licence or 'licence on its page'}"
      for p in bases
    )
    yield ""
  yield (
    "Which licence the trained weights have is for whoever trained them to "
    "say, within that of the data" + (" and of these parts." if bases else ".")
  )
  yield "Code that emma_jax put beside them (`emma_torch/`): Apache-2.0."
