"""Answers come back as they were written."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks.toolkits import replies
from tests.laws import laws

pytestmark = pytest.mark.smoke
TEXTS = st.text(st.sampled_from('a?"\\\n\r\u2028 世'), max_size=6)


@laws(20)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
def test_what_was_written_is_found(tmp_path_factory, rows):
  folder = str(tmp_path_factory.mktemp("replies"))
  replies.write(folder, "task", rows)
  found = replies.Replies(folder)
  for n, (question, response) in enumerate(rows):
    assert found.find("task", n, f"Look. {question}\nBe brief.") == response


def test_the_tasks_are_those_of_sets_that_there_are():
  from emma_jax.benchmarks.data import sets

  for name, split in replies.TASKS:
    found, _ = sets.find(name, split)
    assert found.splits[split].hub, (name, split)  # whose table the task reads
