"""The one error of records and pictures that cannot be used."""

# No encoded picture of more bytes is read.
MAX_BYTES = 128 * 2**20


class BadRecord(ValueError):
  """A record that cannot be used. `where`: "file:line" or an id."""

  def __init__(self, where: str, reason: str):
    super().__init__(where, reason)  # both, so that it pickles
    self.where = where
    self.reason = reason

  def __str__(self) -> str:
    return f"{self.where}: {self.reason}"
