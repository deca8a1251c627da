"""Pages read back as a browser would: their tags, their text, what is amiss."""

import html.parser
import re

# Elements that nothing ends.
VOID = {"circle", "img", "line", "meta", "rect"}
# ... and those whose text nobody reads.
UNSEEN = {"script", "style"}


class Page(html.parser.HTMLParser):
  """A page's `tags` with their attributes, its visible `text`, `problems`."""

  def __init__(self, page: str):
    super().__init__()
    self.tags: list[tuple[str, dict[str, str | None]]] = []
    self.text = ""
    self.problems: list[str] = []
    self._open: list[str] = []
    self.feed(page)
    self.close()
    self.problems += [f"<{tag}> is not ended" for tag in self._open]

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    if len(dict(attrs)) < len(attrs):
      self.problems.append(f"<{tag}> has an attribute twice: {attrs}")
    if tag not in VOID:
      self._open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))

  def handle_endtag(self, tag):
    if not self._open or self._open[-1] != tag:
      self.problems.append(f"</{tag}> ends {self._open[-1:]}")
    else:
      self._open.pop()

  def handle_data(self, data):
    if not UNSEEN & set(self._open):
      self.text += data


def check(page: str) -> Page:
  """The page; its tags must balance, every picture has words, and nothing is
  loaded or executed.

  Raises:
    AssertionError: with what is amiss.
  """
  read = Page(page)
  assert not read.problems, read.problems
  for tag, attributes in read.tags:
    assert tag not in {"base", "embed", "iframe", "link", "object", "script"}
    assert tag != "img" or attributes.get("alt"), "a picture without words"
    for name, value in attributes.items():
      assert not name.startswith("on"), (tag, attributes)
      if name in ("href", "src"):
        assert re.match(r"data:image/(png|jpeg);base64,", value or ""), value
  for word in ("url(", "@import", "http"):
    assert word not in page, word
  return read
