"""Which pictures are STEM: two readings of the paper, by name.

  figure   Figure 2 sends a bar chart to the versatile expert: charts and
           infographics are general
  summary  where the parts are summed up, charts are called STEM

Both take diagrams, formulas, geometry and the natural sciences for STEM. Rules
go by the names of LLaVA-OneVision's and FineVision's parts; what they do not
know is asked with the reading's own prompt.
"""

import dataclasses

from emma_jax.data.curation.selection import Rule

# What a record calls the part of a set that it is from.
_FIELDS = ("data_source", "source", "dataset")
_CHARTS = (
  r"chart|figureqa|dvqa|plotqa|vistext|infographic|scicap|arxiv_?figures"
)
_SCIENCE = (
  r"ai2d|scienceqa|(^|[_ ])tqa|\bgeo|unigeo|geomverse|geometry|intergps|geoqa"
  r"|math(?!v360k)|tabmwp|clevr-math|pmc-?vqa|vqa-?rad|iconqa|raven|physic"
  r"|chemi|biolog|diagram|olympiad|theoremqa"
)
_PROMPT = (
  "Does answering these questions about the picture need science, technology, "
  "engineering or mathematics ({what})? Questions: {{text}} Reply with JSON "
  'alone: {{"stem": true}}'
)


@dataclasses.dataclass(frozen=True)
class Reading:
  """Rules by the names of parts, and the prompt for all others."""

  rules: tuple[Rule, ...]
  prompt: str


def _rules(charts: str) -> tuple[Rule, ...]:
  # Charts first: "chartqa" has "tqa" in it.
  return tuple(
    Rule(label, field, words)
    for label, words in ((charts, _CHARTS), ("stem", _SCIENCE))
    for field in _FIELDS
  )


READINGS = {
  "figure": Reading(
    _rules("general"),
    _PROMPT.format(
      what="diagrams, formulas, geometry, physics, chemistry, biology; reading "
      "a chart, plot, table or infographic is not enough"
    ),
  ),
  "summary": Reading(
    _rules("stem"),
    _PROMPT.format(
      what="diagrams, charts, formulas, geometry, physics, biology"
    ),
  ),
}
