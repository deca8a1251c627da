import os

import pytest

from emma_jax.benchmarks.protocols import user_prompts
from emma_jax.benchmarks.suite import NoReply

pytestmark = pytest.mark.smoke
NAME, ORIGIN = "rise/prompt_a", "utils.py of RISEBench"


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """The user's folder, with a folder for the set."""
  monkeypatch.setenv(user_prompts.VARIABLE, str(tmp_path))
  (tmp_path / "rise").mkdir()
  return tmp_path / "rise"


def test_texts_are_read_from_the_originals_file_which_is_not_run(folder):
  (folder / "utils.py").write_text(
    'import nothing_of_that_name\nprompt_a = """A {instruct}\n"""\nn = 3\n'
  )
  assert user_prompts.text(NAME, ORIGIN) == "A {instruct}\n"


def test_a_file_per_text_goes_first_byte_by_byte(folder):
  (folder / "utils.py").write_text("prompt_a = 'old'\nprompt_b = 'b'\n")
  (folder / "prompt_a.txt").write_bytes("new ü\r\n".encode())
  assert user_prompts.text(NAME, ORIGIN) == "new ü\r\n"
  assert user_prompts.text("rise/prompt_b", ORIGIN) == "b"


def test_a_changed_file_is_read_again(folder):
  file = folder / "utils.py"
  for second, text in enumerate(("one", "two")):
    file.write_text(f"prompt_a = {text!r}\n")
    os.utime(file, (second, second))
    assert user_prompts.text(NAME, ORIGIN) == text


def test_what_is_missing_is_absent_and_says_what_to_give(folder, monkeypatch):
  (folder / "utils.py").write_text("prompt_b = 'b'\n")
  with pytest.raises(NoReply, match=f"prompt_a is in {ORIGIN}.*own") as caught:
    user_prompts.text(NAME, ORIGIN)
  assert caught.value.kind == "absent" and str(folder) in str(caught.value)
  monkeypatch.delenv(user_prompts.VARIABLE)
  with pytest.raises(NoReply, match=r"a folder rise in \$EMMA_BENCHMARK"):
    user_prompts.text(NAME, ORIGIN)


def test_a_folder_that_is_none_and_a_file_that_is_no_python(
  folder, monkeypatch
):
  (folder / "utils.py").write_text("prompt_a = '''\n")
  with pytest.raises(ValueError, match="utils.py is no Python file"):
    user_prompts.text(NAME, ORIGIN)
  monkeypatch.setenv(user_prompts.VARIABLE, str(folder / "nowhere"))
  with pytest.raises(ValueError, match="nowhere', which is no folder"):
    user_prompts.text(NAME, ORIGIN)
