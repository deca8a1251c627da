"""Plans, their ranking and their advice are written as they were."""

import pytest

from tests.goldens import plans, store


@pytest.mark.parametrize("case", ["one", "sweep", "advice", "keys"])
def test_what_a_plan_says_is_as_it_was(case):
  store.check("plans", case, plans.cases()[case], store.EXACT)
