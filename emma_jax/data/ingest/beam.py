"""The calls of a job on an Apache Beam runner, in place of processes here.

The parts, and what each becomes, are those of job.run: the result is the same
byte for byte, whatever runs it. All workers must see the inputs and the output
under the same paths (a file system of the cluster). Beam needs an environment
of its own (extra `prep`): it pins older packages.
"""

from collections.abc import Callable, Iterable, Sequence
import dataclasses
import importlib
from typing import Any

from emma_jax.data.ingest import pool
from emma_jax.data.ingest.job import ConversionError

_NAMESPACE = "emma_jax"
_COUNTERS = ("finished", "rows", "rejected", "bytes")


@dataclasses.dataclass(frozen=True)
class Execute:
  """job.Execute on Beam.

  Args:
    options: of the runner, as on its command line: ["--runner=DirectRunner"].
  """

  options: tuple[str, ...] = ()

  def __post_init__(self):
    try:
      importlib.import_module("apache_beam")
    except ImportError as error:
      raise ConversionError(
        "--beam needs Apache Beam: pip install emma-jax with its extra "
        "`prep`, in an environment of its own (Beam pins older packages)."
      ) from error

  def __call__(
    self,
    calls: Sequence[pool.Call],
    workers: int,
    on_progress: Callable[[pool.Counts], None],
  ) -> None:
    """`workers` is the runner's matter; `on_progress` hears of the end only."""
    import apache_beam as beam
    from apache_beam.metrics import MetricsFilter
    from apache_beam.options.pipeline_options import PipelineOptions

    del workers
    if not calls:
      return
    options = PipelineOptions(list(self.options))
    pipeline = beam.Pipeline(options=options)
    _ = (
      pipeline
      | "Parts" >> beam.Create(list(calls))
      # Else all would be fused into one task with their creation.
      | "Spread" >> beam.Reshuffle()
      | "Convert" >> beam.FlatMap(_run)
    )
    result = pipeline.run()
    result.wait_until_finish()
    found = result.metrics().query(MetricsFilter().with_namespace(_NAMESPACE))[
      "counters"
    ]
    counts = dict.fromkeys(_COUNTERS, 0)
    for metric in found:
      counts[metric.key.metric.name] = metric.result
    on_progress(pool.Counts(**counts))


def _run(call: pool.Call) -> Iterable[Any]:
  """One part; nothing flows on: its files are the result."""
  from apache_beam.metrics import Metrics

  counters = {name: Metrics.counter(_NAMESPACE, name) for name in _COUNTERS}
  function, arguments = call

  def tick(rejected: bool, size: int) -> None:
    counters["rows"].inc()
    counters["rejected"].inc(int(rejected))
    counters["bytes"].inc(size)

  function(*arguments, tick)
  counters["finished"].inc()
  return ()
