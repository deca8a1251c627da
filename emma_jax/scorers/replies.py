"""What all judges of this room share: one picture in, a reply out."""

from collections.abc import Callable
import datetime
import time

from emma_jax.judge.base import Call, Reply
from emma_jax.scorers.packages import BadPicture


class Unknown(Exception):
  """A file of results has none of this picture."""


def reply(model: str, work: Callable[[], str]) -> Reply:
  """The reply whose text `work` gives.

  A picture that cannot be read is "unreachable", one that a file does not know
  "absent"; other errors are mistakes of the caller, and are raised.
  """
  start = time.monotonic()
  date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
  try:
    text = work()
  except Unknown as error:
    return Reply(status="absent", error=str(error), model=model, date=date)
  except BadPicture as error:
    return Reply(status="unreachable", error=str(error), model=model, date=date)
  return Reply(
    text=text,
    model=model,
    finish="stop",
    seconds=time.monotonic() - start,
    date=date,
  )


def only_picture(call: Call) -> bytes:
  """The call's one picture; ValueError for none or several."""
  if len(call.pictures) != 1:
    raise ValueError(
      f"{call.id} shows {len(call.pictures)} pictures; this judge looks at one."
    )
  return call.pictures[0]
