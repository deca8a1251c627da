"""Settings of hypothesis's tests: few examples, and a seed that is printed.

A failure prints the example, and a line that repeats it whatever its seed was:
`@reproduce_failure(...)`. Nothing is kept between runs, so that a test is the
same everywhere; the examples are others in every run.
"""

from hypothesis import HealthCheck, Phase, settings


def laws(examples: int) -> settings:
  """Of a property that is tried on so many examples."""
  return settings(
      max_examples=examples, deadline=None, database=None, print_blob=True,
      phases=(Phase.explicit, Phase.generate, Phase.shrink),
      suppress_health_check=[HealthCheck.too_slow,
                             HealthCheck.data_too_large])
