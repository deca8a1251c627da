from concurrent import futures
import dataclasses
from pathlib import Path
import signal
import subprocess
import sys
import threading
import time

import pytest

from emma_jax.judge import cached, replies
from emma_jax.judge.base import JudgeError, Reply, key_of
from emma_jax.judge.cached import Cached
from tests.judge.common import CALL, Counted, judge
from tests.local_server import Script, chat, error, serve

pytestmark = pytest.mark.smoke
REPO = Path(__file__).resolve().parent.parent.parent


def test_a_reply_is_given_once_and_is_the_same_from_the_disk(tmp_path):
  inner = Counted(
    model="m-1", finish="stop", logprobs={"ä": -0.25}, seconds=1.5, date="d"
  )
  one = Cached(inner, str(tmp_path))
  assert not one.knows(CALL)
  reply, before = one.ask_cached(CALL)
  assert not before and one.knows(CALL)
  again, before = Cached(inner, str(tmp_path)).ask_cached(CALL)
  assert before and again == reply == one.ask(CALL) and len(inner.asked) == 1
  key = key_of(inner.identity(), CALL)
  assert one.key(CALL) == key
  (file,) = (p for p in tmp_path.rglob("*") if p.is_file())
  assert file == tmp_path / key[:2] / f"{key}.json"
  anew = dataclasses.replace(CALL, attempt=1)
  assert one.ask_cached(anew)[1] is False


@pytest.mark.parametrize(
  "status, kept", [("ok", 1), ("refused", 1), ("unreachable", 0), ("absent", 0)]
)
def test_what_is_kept(tmp_path, status, kept):
  inner = Counted(status=status, text="")
  one = Cached(inner, str(tmp_path))
  found = [one.ask_cached(CALL) for _ in range(3)]
  assert {reply.status for reply, _ in found} == {status}
  assert [before for _, before in found] == [False, *[bool(kept)] * 2]
  assert len(inner.asked) == (1 if kept else 3)


def test_a_server_that_comes_back_is_asked_again(tmp_path):
  script = Script(error(503), error(503), error(503), chat("Yes"))
  with serve(script) as url:
    one = Cached(judge(url), str(tmp_path))
    assert one.ask(CALL).status == "unreachable"
    assert one.ask(CALL).text == "Yes"


def test_the_address_of_a_server_is_no_matter(tmp_path):
  with serve(Script(chat("Yes"))) as url:
    reply = Cached(judge(url), str(tmp_path)).ask(CALL)
  gone = Cached(judge("http://127.0.0.1:9/v1"), str(tmp_path))
  assert gone.ask(CALL) == reply
  other = judge("http://127.0.0.1:9/v1", max_tokens=31)
  assert Cached(other, str(tmp_path)).ask(CALL).status == "unreachable"


@pytest.mark.parametrize("locks", [True, False])
def test_threads_that_ask_the_same_pay_once(tmp_path, monkeypatch, locks):
  """Also on a file system that has no locks."""

  class Slow(Counted):
    def ask(self, call):
      time.sleep(0.05)
      return super().ask(call)

  def refuses(*unused):
    raise OSError("no locks available")

  if not locks:
    monkeypatch.setattr(replies.fcntl, "flock", refuses)
  inner = Slow()
  one = Cached(inner, str(tmp_path))
  calls = [dataclasses.replace(CALL, text=f"{n % 3}") for n in range(24)]
  with futures.ThreadPoolExecutor(8) as pool:
    found = list(pool.map(one.ask_cached, calls))
  assert len(inner.asked) == 3
  assert sum(not before for _, before in found) == 3
  assert [r.text for r, _ in found] == [c.text for c in calls]


def started(program: str, *arguments: str) -> subprocess.Popen:
  return subprocess.Popen(
    [sys.executable, "-c", program, *arguments],
    cwd=REPO,
    stdout=subprocess.PIPE,
    text=True,
  )


ASK = """
import sys
from emma_jax.judge.cached import Cached
from tests.judge.common import CALL, judge
one = Cached(judge(sys.argv[1]), sys.argv[2])
print("ready", flush=True)
reply, before = one.ask_cached(CALL)
print(reply.text, before)
"""


def test_processes_that_ask_the_same_pay_once(tmp_path):
  all_here = threading.Event()

  class Waits(Script):
    def post(self, *request):
      reply = super().post(*request)
      all_here.wait(10)
      time.sleep(0.1)  # until the others ask too
      return reply

  script = Waits(chat("Yes"))
  with serve(script) as url:
    children = [started(ASK, url, str(tmp_path)) for _ in range(3)]
    for child in children:
      assert child.stdout.readline() == "ready\n"
    all_here.set()
    found = [child.communicate(timeout=20)[0] for child in children]
  assert len(script.asked) == 1
  assert sorted(found) == ["Yes False\n", "Yes True\n", "Yes True\n"]
  assert not list(tmp_path.rglob("*.lock"))


COUNT = """
import pathlib, sys
from emma_jax.judge import replies
count = pathlib.Path(sys.argv[1], "count")
for _ in range(300):
  with replies.alone(sys.argv[1], "ab12"):
    count.write_text(str(int(count.read_text()) + 1))
"""


def test_one_process_at_a_time_is_in(tmp_path):
  """The lock's file is taken away each time, and made anew."""
  (tmp_path / "count").write_text("0")
  children = [started(COUNT, str(tmp_path)) for _ in range(3)]
  for child in children:
    child.communicate()
    assert child.returncode == 0
  assert (tmp_path / "count").read_text() == "900"


def test_a_process_that_is_killed_while_it_asks_holds_up_nobody(tmp_path):
  came = threading.Event()

  class Silent(Script):
    def post(self, *request):
      came.set()
      time.sleep(0.3)
      return super().post(*request)

  with serve(Silent(chat("late"))) as url:
    child = started(ASK, url, str(tmp_path))
    assert came.wait(20)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    inner = Counted()
    inner.identity = judge(url).identity
    start = time.monotonic()
    assert Cached(inner, str(tmp_path)).ask_cached(CALL)[1] is False
    assert time.monotonic() - start < 5 and len(inner.asked) == 1


WRITE = """
import dataclasses, sys
from emma_jax.judge.cached import Cached
from tests.judge.common import CALL, Counted
one = Cached(Counted(text="x" * 3_000_000), sys.argv[1])
print("ready", flush=True)
for n in range(1000):
  one.ask(dataclasses.replace(CALL, attempt=n))
"""


def test_a_reply_is_on_disk_whole_or_not_there(tmp_path):
  children = [started(WRITE, str(tmp_path / str(n))) for n in range(3)]
  for n, child in enumerate(children):
    assert child.stdout.readline() == "ready\n"
    time.sleep(0.05 + 0.013 * n)
    child.send_signal(signal.SIGKILL)
    child.communicate()
  inner = Counted()
  for n in range(len(children)):
    folder = tmp_path / str(n)
    one = Cached(inner, str(folder))
    there = {p.stem for p in folder.rglob("*.json")}
    calls = [dataclasses.replace(CALL, attempt=i) for i in range(1000)]
    known = [call for call in calls if one.key(call) in there]
    assert known == calls[: len(known)]
    for call in known:
      assert len(one.ask(call).text) == 3_000_000
    assert not inner.asked
    assert one.ask(calls[len(known)]).text == CALL.text  # goes on there
    inner.asked.clear()


KILLED = """
import os, sys
from emma_jax import files
from emma_jax.judge.cached import Cached
from tests.judge.common import CALL, Counted
files.replace = lambda *names: os.kill(os.getpid(), 9)  # all is written
Cached(Counted(), sys.argv[1]).ask(CALL)
"""


def test_a_reply_without_its_name_is_asked_for_again(tmp_path):
  child = started(KILLED, str(tmp_path))
  child.communicate()
  assert child.returncode == -signal.SIGKILL
  assert [p.suffix for p in tmp_path.rglob("*.tmp")] == [".tmp"]
  inner = Counted()
  one = Cached(inner, str(tmp_path))
  assert not one.knows(CALL)
  assert [one.ask_cached(CALL)[1] for _ in range(2)] == [False, True]


def test_a_damaged_file_says_what_to_do(tmp_path):
  one = Cached(Counted(), str(tmp_path))
  one.ask(CALL)
  (file,) = tmp_path.rglob("*.json")
  for damage in ("", "{", "[]", '{"words": "of another version"}'):
    file.write_text(damage)
    with pytest.raises(JudgeError, match=f"{file}.*Delete it"):
      one.ask(CALL)


def test_any_judge_says_whether_it_was_asked_before(tmp_path):
  inner = Counted()
  assert cached.ask(inner, CALL)[1] is False
  one = Cached(inner, str(tmp_path))
  found = [cached.ask(one, CALL) for _ in range(2)]
  assert [before for _, before in found] == [False, True]
  assert isinstance(found[0][0], Reply) and one.identity() == inner.identity()
