"""Pages from templates: one self-contained file, in which every value is text.

A page is a template that fills `base.html.j2`; what it shows comes as numbers,
texts and dataclasses, and numbers are written by the filters of `formats`.
"""

import functools
import pathlib
from typing import Any

import jinja2

from emma_jax.pages import formats

TEMPLATES = pathlib.Path(__file__).with_name("templates")


@functools.cache
def environment() -> jinja2.Environment:
  """The templates with their filters.

  Every value is escaped, whatever the template's name ends in: captions,
  answers and names of data sets come from others. A name that nobody gave a
  value is an error, not an empty place.
  """
  made = jinja2.Environment(
    loader=jinja2.FileSystemLoader(TEMPLATES),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
  )
  for show in (formats.score, formats.share, formats.thousands):
    made.filters[show.__name__] = show
  return made


def render(template: str, **values: Any) -> str:
  """The text of a page.

  Raises:
    jinja2.TemplateNotFound: there is no such file among `TEMPLATES`.
    jinja2.UndefinedError: the template uses what is not in `values`.
  """
  return environment().get_template(template).render(values)
