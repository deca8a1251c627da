"""A chain of constructions: every step a folder of records, by its content.

  OUT/1_convert-0f3a12bc/   OUT/2_size-77e0d1a4/   ...   OUT/chain.json

A step's folder is named by what decides it: its settings, and those of all that
it is made from. So the same command again passes over the steps that are done,
goes on in the middle of the one that is not, and makes anew what a changed
setting changes, and nothing else. Replies of servers lie in OUT/replies, each
on the disk before it is used: a chain that was killed asks again only what had
no reply yet.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import hashlib
import json
import os
from typing import Any, Literal

from emma_jax import files, ranges
from emma_jax.data.curation import costs
from emma_jax.data.curation.costs import Estimate
from emma_jax.data.ingest import job as job_lib
from emma_jax.data.ingest import part as part_lib
from emma_jax.data.ingest.job import ConversionError
from emma_jax.data.records.card import FILE, Card
from emma_jax.judge import ledger
from emma_jax.judge.ledger import Spent

REPORT = "chain.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
  """One construction.

  Args:
    name: such as "2_size"; steps are made in the order given.
    maker: what becomes of a record.
    inputs: names of earlier steps, or files and the like as Job takes them.
    share: of what goes in, what is expected to come out, for estimates alone.
    max_rejected: share of broken rows above which the step stops.
  """

  name: str
  maker: part_lib.Converter
  inputs: tuple[str, ...]
  share: float
  max_rejected: float

  def __post_init__(self):
    ranges.NOT_NEGATIVE.check(f"{self.name}: share", self.share)
    ranges.SHARE.check(f"{self.name}: max_rejected", self.max_rejected)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chain:
  """Steps in a folder.

  Args:
    name: of the chain, in its report.
    out: folder of the steps; made if missing.
    steps: in order; inputs come before what they go into.
    workers: processes; 0 works in this one.
    requests: records that are asked about at a time.
    rows_per_shard: about.
    licence: noted in every card.
  """

  name: str
  out: str
  steps: tuple[Step, ...]
  workers: int
  requests: int
  rows_per_shard: int
  licence: str

  def __post_init__(self):
    seen: set[str] = set()
    for step in self.steps:
      if step.name in seen:
        raise ConversionError(f"Two steps are called {step.name!r}.")
      later = {s.name for s in self.steps} - seen
      for name in set(step.inputs) & later:
        raise ConversionError(
          f"{step.name} takes {name}, which comes after it or is itself."
        )
      seen.add(step.name)
    if not self.steps:
      raise ConversionError(f"The chain {self.name} has no steps.")

  def folders(self) -> dict[str, str]:
    """Step -> its folder."""
    found: dict[str, str] = {}
    for step in self.steps:
      given = [
        ["step", os.path.basename(found[name])]
        if name in found
        else job_lib.file_state(name)
        for name in step.inputs
      ]
      text = json.dumps(
        [step.maker.identity(), given, self.rows_per_shard, self.provenance()]
      )
      digest = hashlib.sha256(text.encode()).hexdigest()[:8]
      found[step.name] = os.path.join(self.out, f"{step.name}-{digest}")
    return found

  def inputs(self, step: Step, folders: Mapping[str, str]) -> list[str]:
    """What a step reads, as Job takes it."""
    return [
      f"records:{os.path.abspath(folders[name])}" if name in folders else name
      for name in step.inputs
    ]

  def results(self) -> list[str]:
    """Steps that go into no other: what the chain is for."""
    used = {name for step in self.steps for name in step.inputs}
    return [step.name for step in self.steps if step.name not in used]

  def provenance(self) -> dict[str, str]:
    """For every card."""
    return {"licence": self.licence or "not stated"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
  """A step: what went in, what came out, what was asked and paid.

  `estimates` are of the whole step; numbers that are expected, not counted,
  are those of a step whose state is not "done".
  """

  name: str
  folder: str
  state: Literal["done", "begun", "to do"]
  records_in: int | None
  records_out: int | None
  rejected: int
  left_out: Mapping[str, int]
  estimates: tuple[Estimate, ...]
  spent: Mapping[str, Spent]
  result: bool

  @property
  def asked(self) -> float | None:
    """The estimated cost of the step."""
    return ledger.total(e.cost for e in self.estimates)

  @property
  def paid(self) -> float | None:
    """What its calls have cost so far."""
    return ledger.total(ledger.cost_of(s) for s in self.spent.values())


def run(
  chain: Chain,
  rows: int | None = None,
  begin: Callable[[Report], Any] = lambda report: None,
  end: Callable[[Report], Any] = lambda report: None,
  progress: Callable[[job_lib.State], None] = lambda state: None,
) -> list[Report]:
  """Makes what is not there; writes chain.json after every step.

  Args:
    chain: what is to be made.
    rows: of inputs that do not tell it (a tar), for the estimates.
    begin: hears of a step before it is made; not of those that are there.
    end: hears of every step.
    progress: hears of a step's conversion, see job.run.

  Raises:
    ConversionError: of a step; the same call again goes on after it.
    TooManyRejected: the input is not what it should be.
  """
  folders, given = chain.folders(), _given(chain, rows)
  os.makedirs(chain.out, exist_ok=True)
  for number, step in enumerate(chain.steps):
    before = _look(chain, folders, given)[number]
    if before.state != "done":
      begin(before)
      job_lib.run(
        job_lib.Job(
          inputs=chain.inputs(step, folders),
          out=folders[step.name],
          maker=step.maker,
          rows_per_shard=chain.rows_per_shard,
          workers=chain.workers,
          requests=chain.requests,
          max_rejected=step.max_rejected,
          provenance=chain.provenance(),
        ),
        progress,
      )
    reports = _look(chain, folders, given)
    save(chain, reports)
    end(reports[number])
  return reports


def look(chain: Chain, rows: int | None = None) -> list[Report]:
  """Every step as it is now; nothing is asked, made or changed."""
  return _look(chain, chain.folders(), _given(chain, rows))


def _given(chain: Chain, rows: int | None) -> dict[str, int | None]:
  """Step -> rows of those of its inputs that are no steps."""
  steps, out = {step.name for step in chain.steps}, {}
  for step in chain.steps:
    named = [name for name in step.inputs if name not in steps]
    try:
      out[step.name] = costs.rows_of(
        named, step.maker.base.options, chain.rows_per_shard, rows
      )
    except (OSError, ValueError, ImportError, AttributeError) as error:
      raise ConversionError(f"{step.name}: {error}") from error
  return out


def _look(
  chain: Chain, folders: Mapping[str, str], given: Mapping[str, int | None]
) -> list[Report]:
  out: dict[str, Report] = {}
  for step in chain.steps:
    counts = [out[n].records_out for n in step.inputs if n in out]
    counts.append(given[step.name])
    count = None if None in counts else sum(n for n in counts if n is not None)
    result = step.name in chain.results()
    out[step.name] = _report(step, folders[step.name], count, result)
  return list(out.values())


def _report(step: Step, folder: str, count: int | None, result: bool) -> Report:
  done = os.path.exists(os.path.join(folder, FILE))
  partial = f"{folder}.partial"
  begun = os.path.isdir(partial)
  values: dict[str, Any] = dict(
    name=step.name,
    folder=folder,
    state="done" if done else "begun" if begun else "to do",
    records_in=count,
    estimates=tuple(costs.estimates(step.maker, count or 0)),
    spent=ledger.spent(
      os.path.join(folder if done else partial, ledger.LEDGER)
    ),
    result=result,
  )
  if done:
    card = Card.load(folder)
    return Report(
      records_out=card.records,
      rejected=card.rejected,
      left_out=card.provenance.get("left out", {}),
      **values,
    )
  expected = None if count is None else round(count * step.share)
  return Report(records_out=expected, rejected=0, left_out={}, **values)


def save(chain: Chain, reports: Sequence[Report]) -> None:
  """Writes OUT/chain.json: all steps, and the sums."""
  text = json.dumps(
    {
      "chain": chain.name,
      "steps": [_json(report) for report in reports],
      "cost asked": ledger.total(r.asked for r in reports),
      "cost spent": ledger.total(r.paid for r in reports),
    },
    indent=1,
    ensure_ascii=False,
  )
  files.write_text(os.path.join(chain.out, REPORT), text + "\n")


def _json(report: Report) -> dict[str, Any]:
  return dataclasses.asdict(report) | {
    "folder": os.path.basename(report.folder),
    "cost asked": report.asked,
    "cost spent": report.paid,
  }


def table(reports: Sequence[Report]) -> Iterator[str]:
  """The steps as lines of text, with sums; * marks what the chain is for."""
  yield (
    f"{'step':20} {'state':6} {'in':>10} {'out':>10} {'rejected':>8} "
    f"{'calls':>9} {'cost asked':>11} {'cost spent':>11}"
  )
  for r in reports:
    calls = sum(s.calls for s in r.spent.values())
    yield (
      f"{r.name + '*' * r.result:20} {r.state:6} {_count(r.records_in):>10} "
      f"{_count(r.records_out):>10} {r.rejected:>8} {calls:>9,} "
      f"{_cost(r.asked):>11} {_cost(r.paid):>11}"
    )
    for kind, count in sorted(r.left_out.items(), key=lambda item: -item[1]):
      yield f"{'':27} {count:>10,} left out: {kind}"
  yield (
    f"cost asked {ledger.money(ledger.total(r.asked for r in reports))}, "
    f"spent {ledger.money(ledger.total(r.paid for r in reports))}"
  )


def _count(count: int | None) -> str:
  return "?" if count is None else f"{count:,}"


def _cost(cost: float | None) -> str:
  return "?" if cost is None else ledger.money(cost)
