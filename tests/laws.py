"""Settings of hypothesis's tests.

The examples are a function of the test, so that a commit that passed passes
again; EMMA_EXAMPLES=random draws others, as one would overnight. A failure
prints the example, and a line that repeats it: `@reproduce_failure(...)`.
"""

import os

from hypothesis import HealthCheck, Phase, settings


def laws(examples: int) -> settings:
  """Of a property that is tried on so many examples."""
  return settings(
    max_examples=examples,
    deadline=None,
    database=None,
    print_blob=True,
    derandomize=os.environ.get("EMMA_EXAMPLES") != "random",
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
  )
