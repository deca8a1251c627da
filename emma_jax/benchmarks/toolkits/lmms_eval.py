"""EMMA as a model of lmms-eval 0.7, found by its entry point.

  lmms-eval eval --model emma_jax --tasks chartqa,mmstar --batch_size 32 \\
      --model_args checkpoint=runs/x
  lmms-eval eval --model emma_jax --tasks gedit_bench --process_with_media \\
      --model_args checkpoint=runs/x,media=DIR

Answers that `emma-benchmark` made are scored again without a model:

  emma-benchmark export OUT --to lmms --dest DIR
  lmms-eval eval --model emma_jax --tasks chartqa --model_args replies=DIR

Interface: EvolvingLMMs-Lab/lmms-eval, lmms_eval/api/model.py (`lmms`),
api/task.py (`construct_requests`, `process_results`), models/registry_v2.py.
"""

from collections.abc import Callable, Sequence
import hashlib
import json
import logging
import os
import re
from typing import Any

from emma_jax import files
from emma_jax.benchmarks.toolkits import lmms_requests
from emma_jax.benchmarks.toolkits.asking import Asked, Asker, Given, error_text
from emma_jax.benchmarks.toolkits.replies import Replies

try:
  from lmms_eval.api.model import lmms as _Base

  INSTALLED = True
except ImportError:
  _Base = object
  INSTALLED = False

# Tasks of 0.7.3 whose reply is a picture's path.
PICTURE_TASKS = (
  *("WISE", "babyvision_gen", "gedit_bench", "imgedit", "kris_bench"),
  "structeditbench",
)
MODES = ("auto", "text", "picture")


def manifest() -> Any:
  """What the entry point `lmms_eval.models` gives: where the class is."""
  from lmms_eval.models.registry_v2 import ModelManifest

  return ModelManifest(
    model_id="emma_jax", simple_class_path=f"{__name__}.EmmaJax"
  )


class EmmaJax(_Base):
  """A model of lmms-eval; its arguments are those of --model_args.

  Args:
    checkpoint: shipped weights, a weight file, a training's or an exported
      folder.
    batch_size: requests computed at once; any number gives the same answers.
    rows: of every program, a power of two: 1 where requests come one by one on
      a CPU. Another number may round otherwise.
    max_new_tokens: of an answer, in place of the tasks'; 0: theirs.
    media: folder of what is drawn.
    mode: whether replies are texts or pictures; "auto": as PICTURE_TASKS says.
    steps: of pictures, 0: the checkpoint's.
    seed: of noise, and of answers above temperature 0.
    replies: folder of answers that were made before (see `replies`), in place
      of a checkpoint.
    session: a loaded session, in place of a checkpoint.
    max_batch_size, device: of lmms-eval's command line; not used.
  """

  is_simple = True

  def __init__(
    self,
    checkpoint: str = "",
    batch_size: int | str = 1,
    rows: int = 32,
    max_new_tokens: int = 0,
    media: str = "emma_jax_media",
    mode: str = "auto",
    steps: int = 0,
    seed: int = 0,
    replies: str = "",
    session: Any = None,
    max_batch_size: int | None = None,
    device: str | None = None,
  ):
    if not INSTALLED:
      raise ImportError(
        "This model runs within lmms-eval, which is not installed; pip install "
        "'lmms-eval>=0.7.3,<0.8', in an environment of its own."
      )
    super().__init__()
    if mode not in MODES:
      raise ValueError(f"{mode=} is unknown; there are {', '.join(MODES)}.")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
      raise ValueError(
        "lmms-eval was started with several processes, each of which would "
        "load the model on all devices. Start one, or predict with "
        "`emma-benchmark predict --shard` and give `replies`."
      )
    options: dict[str, Any] = dict(
      batch=int(batch_size), steps=steps or None, seed=seed
    )
    self._asker: Asker | None = None
    self._replies = Replies(str(replies)) if replies else None
    if session is not None:
      self._asker = Asker(session, **options)
    elif not replies:
      self._asker = Asker.load(str(checkpoint), rows=rows, **options)
    self._limit = max_new_tokens
    self._media, self._mode = str(media), mode
    self._batch_size = int(batch_size)

  @property
  def batch_size(self) -> int:
    """For lmms-eval's table of results."""
    return self._batch_size

  @property
  def asker(self) -> Asker:
    """What computes; ValueError where there are replies alone."""
    if self._asker is None:
      raise ValueError("`replies` has texts alone; give a checkpoint.")
    return self._asker

  # ---------------------------------------------------------------- answers

  def generate_until(self, requests: Sequence[Any]) -> list[str]:
    """A reply to each request, in order: a text, or where its picture is.

    What fails has `error_text`, in place of JSON too: tasks count either as
    wrong, or as the lowest score.
    """
    names = list(lmms_requests.names(requests))
    kinds: dict[Callable, list[int]] = {}
    for i, request in enumerate(requests):
      drawn = self._is_drawn(request.args[4])
      kinds.setdefault(self._pictures if drawn else self._texts, []).append(i)
    out: dict[int, str] = {}
    for reply, places in kinds.items():
      some = [(requests[i], names[i]) for i in places]
      out.update(zip(places, reply(some)))
    self._tell()
    return [out[i] for i in range(len(requests))]

  def _texts(self, named: Sequence[tuple[Any, str]]) -> list[str]:
    if self._replies is not None:
      return [
        self._replies.find(request.args[4], request.args[3], request.args[0])
        for request, _ in named
      ]
    found = self.asker.answers(self._asked(*one) for one in named)
    return [error_text(g.status) if g.failed else g.text for g in found]

  def _pictures(self, named: Sequence[tuple[Any, str]]) -> list[str]:
    found = self.asker.pictures(self._asked(*one) for one in named)
    return [self._as_json(g, name) for g, (_, name) in zip(found, named)]

  def _as_json(self, given: Given, name: str) -> str:
    if given.failed:
      return error_text(given.status)
    path = self._save(given.picture, name)
    return json.dumps({"text": "", "images": [path]}, ensure_ascii=False)

  def _save(self, picture: bytes, name: str) -> str:
    """By its content: a run never finds the picture of another."""
    stem = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:120]
    short = hashlib.sha256(picture).hexdigest()[:12]
    path = os.path.abspath(os.path.join(self._media, f"{stem}-{short}.png"))
    with files.atomic_write(path) as file:
      file.write(picture)
    return path

  def generate_visual_cot(self, requests: Sequence[Any]) -> list[str]:
    """Draws an aid to each question, and asks with it behind the pictures.

    With pictures the aid is an edit of them, without it is a drawing. Where it
    fails, the question is not asked.

    Raises:
      ValueError: a task that does not say what to draw and what to ask.
    """
    parts = [lmms_requests.drawing_and_question(r.args[0]) for r in requests]
    names = list(lmms_requests.names(requests))
    aids = self.asker.pictures(
      Asked(name=f"{name}/aid", text=drawing, pictures=self._shown(request))
      for request, name, (drawing, _) in zip(requests, names, parts)
    )
    out = {i: error_text(a.status) for i, a in enumerate(aids) if a.failed}
    whole = [i for i in range(len(requests)) if i not in out]
    for i in whole:
      self._save(aids[i].picture, f"{names[i]}/aid")
    found = self.asker.answers(
      self._asked(requests[i], names[i], parts[i][1], [aids[i].picture])
      for i in whole
    )
    for i, given in zip(whole, found):
      out[i] = error_text(given.status) if given.failed else given.text
    self._tell()
    return [out[i] for i in range(len(requests))]

  def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
    """Is not done: its rounds bring new pictures, and a session takes pictures
    in a conversation's first question alone."""
    raise NotImplementedError(
      "Tasks of several rounds show pictures in later rounds; EMMA takes them "
      "in the first question alone."
    )

  # ------------------------------------------------------------- likelihood

  def loglikelihood(self, requests: Sequence[Any]) -> list[Any]:
    """(mean negative log-likelihood of a token, greedy) of each continuation.

    Each is the `text` of a GenerationResult: of a pair alone 0.7.3 makes a text
    (`unwrap_generation_output`), which no task can take apart.

    The first is a loss, as lmms-eval's own models return it and its evaluator
    takes it: of options the lowest wins (`process_results`), whatever the
    docstring of `lmms.loglikelihood` says. White space before a continuation
    parts it from a prompt; an answer in a conversation begins without.

    Raises:
      NotImplementedError: of the metric acc_mutual_info: the answers of a
        conversation have no likelihood without a question.
      BadRecord, SampleError: a question that cannot be shown; a number in its
        place would choose an option.
    """
    from lmms_eval.api.instance import GenerationResult

    from emma_jax.benchmarks.toolkits import likelihood

    out = []
    for request in requests:
      if len(request.args) != 6:
        raise NotImplementedError(
          "acc_mutual_info asks how likely an option is without a question; "
          "an answer in a conversation always has one. Leave the metric out."
        )
      context, continuation, _, doc_id, task, split = request.args
      if callable(continuation):
        continuation = continuation(self.task_dict[task][split][doc_id])
      asked = lmms_requests.marked(context, self._shown(request))
      found = likelihood.of_answer(
        self.asker.session, asked.pictures, asked.text, continuation.lstrip()
      )
      pair = -found.log / found.tokens, found.greedy
      out.append(GenerationResult(text=pair))
    return out

  # --------------------------------------------------------------- requests

  def _is_drawn(self, task: str) -> bool:
    if self._mode == "auto":
      return task in PICTURE_TASKS
    return self._mode == "picture"

  def _shown(self, request: Any) -> list[Any]:
    """The pictures of a request."""
    to_visual, doc_id, task, split = request.args[2:]
    visuals = to_visual(self.task_dict[task][split][doc_id]) or ()
    return [lmms_requests.picture(visual) for visual in visuals]

  def _asked(
    self,
    request: Any,
    name: str,
    text: str | None = None,
    more: Sequence[Any] = (),
  ) -> Asked:
    """A request; `text` in place of its own, `more` pictures behind its own."""
    context, options = request.args[:2]
    lmms_requests.check(options)
    asked = lmms_requests.marked(
      context if text is None else text, [*self._shown(request), *more]
    )
    limit = self._limit or options.get("max_new_tokens")
    return Asked(
      name=name,
      text=asked.text,
      pictures=asked.pictures,
      max_tokens=int(limit) if limit else None,
      temperature=lmms_requests.temperature(options),
      top_p=float(options.get("top_p") or 1.0),
      stop=lmms_requests.stops(options),
    )

  def _tell(self) -> None:
    failures = self._asker.failures if self._asker else {}
    if failures:
      logging.getLogger(__name__).warning(
        "%d requests so far failed (%s); their replies are an error's text, "
        "and count as wrong.",
        sum(failures.values()),
        ", ".join(f"{n} {kind}" for kind, n in sorted(failures.items())),
      )
