"""What a page says of how its numbers were made: the lines of `provenance`."""

from collections.abc import Mapping, Sequence
import dataclasses
import datetime
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
  """A process that began or went on with the work, in words."""

  time: str
  step: int
  command: str
  commit: str
  versions: str
  hosts: str
  devices: str


def described(starts: Sequence[Mapping[str, Any]]) -> list[Start]:
  """The last one first."""
  return [_start(one) for one in reversed(starts)]


def _start(one: Mapping[str, Any]) -> Start:
  when = datetime.datetime.fromtimestamp(one["time"], datetime.UTC)
  commit = one["commit"]
  if commit.endswith("+"):
    commit = f"{commit[:-1]}, and changes that are in no commit"
  hosts = one["hosts"]
  more = f" and {len(hosts) - 8} more" if len(hosts) > 8 else ""
  return Start(
    time=when.strftime("%Y-%m-%d %H:%M UTC"),
    step=one["step"],
    command=one["command"],
    commit=commit or "none: an installed package",
    versions=", ".join(f"{k} {v}" for k, v in one["versions"].items()),
    hosts=", ".join(hosts[:8]) + more,
    devices=one["devices"],
  )
