"""What chains of data construction are made of: every key, with its meaning.

A config of this folder is a chain: `steps`, in the order of their names, and
the `servers` that they ask. [P] marks what the paper records (section 7), [D]
our default where it is silent. Any key can be set on the command line:
`--config.steps.3_aesthetic.minimum=6`.
"""

import ml_collections

# Keys of every step.
_COMMON = dict(
  input="",  # name of an earlier step, or several; "": the one before
  share=1.0,  # of what goes in, what is expected to come out: for estimates
  max_rejected=0.2,  # a larger share of broken rows ends the step
)
# What becomes of a record that a server refuses, or answers without sense:
# "drop" (counted by reason), "error" (the run ends) or "keep" (as it is).
_MISSING = dict(missing="drop")

# `by`, `judge` and the like: a section of `servers`, "noted" (what an earlier
# step left in the provenance), "local" (ocr, read and face: models of the extra
# `scorers`), or a file of answers; "": nobody.
KINDS = dict(
  # Public formats to records: see emma_jax/data/README.md.
  convert=dict(
    form="",  # of the rows; "": what their columns tell
    columns=(),  # (ours, theirs): (("caption", "TEXT"),)
    images="",  # where relative paths of pictures begin; "": beside the file
    keep=(),  # further columns to keep as provenance
    stem="unknown",  # label of questions without one: unknown, general, stem
    weight=1.0,  # of rows without one
    check="decode",  # or "header", which trusts what follows it
    data_dir="",  # of TensorFlow Datasets
  ),
  # By task, size, note, label and score; a score may be asked for.
  filter=dict(
    tasks=(),
    min_side=0,  # pixels of the shorter side
    max_side=0,  # of the longer one; 0: any
    min_pixels=0,
    max_aspect=0.0,  # longer over shorter side; 0: any
    noted=(),  # (key of the provenance, value wanted)
    stem="",  # "stem" or "general": questions with that label alone
    score="",  # its name, under which it is noted; "": none
    ask="score",  # or "quality": the prompt
    by="",
    minimum=None,
    maximum=None,
    **_MISSING,
  ),
  dedup=dict(
    exact="pixels", perceptual="dhash", radius=3, text="always", keep="first"
  ),
  # A caption from the picture, in place of the one that is there.
  recaption=dict(by="vlm", english=True, **_MISSING),
  # Captions as answers to "Describe the picture.".
  as_questions=dict(),
  # A note of a yes or no: {"portrait": true}.
  label=dict(
    name="portrait", by="vlm", words=("general", "portrait"), **_MISSING
  ),
  # An instruction for a picture, and what undoes it.
  propose_edits=dict(by="vlm", **_MISSING),
  # An edit of a text that OCR reads: replaced, or removed (that share) [D].
  propose_text_edits=dict(by="vlm", remove=0.3, max_words=5, **_MISSING),
  # The edits carried out, by /images/edits. max_stretch [D]: of the aspect
  # ratio, beyond which a result shows something else.
  apply_edits=dict(painter="editor", max_stretch=1.05, **_MISSING),
  # Judged, read, faces compared, and turned around [P]; thresholds [D].
  check_edits=dict(
    reverse=True,
    reversals="vlm",
    judge="vlm",
    min_judge=7.0,
    ocr="vlm",
    face="vlm",
    min_face=0.6,
    **_MISSING,
  ),
  # Words drawn with fonts; English alone, as the paper's drawings [P].
  synth_text=dict(
    count=100_000,
    seed=0,
    sizes=((1024, 1024), (832, 1216), (1216, 832)),
    languages=("en",),
    fonts=(),  # folders; (): the system's
    max_texts=3,
  ),
  # Words in scenes, by /images/generations; to be checked by check_text.
  generate_text=dict(
    painter="generator", count=50_000, seed=0, max_texts=2, **_MISSING
  ),
  # Kept if OCR reads what the provenance says is written there. max_extra:
  # words beside these that may be there; None: any.
  check_text=dict(by="vlm", max_extra=3, **_MISSING),
  # The highest scores of every group, as many of each.
  select=dict(
    score="quality",
    ask="quality",
    answers="noted",
    count=0,  # of each group
    by="",  # key of the provenance; "": a task is a group
    counts=(),  # (group, another count)
    missing="drop",
  ),
  # reading: "figure" (a chart is general, as Figure 2 routes one) or "summary"
  # (charts are STEM); rules: a file in place of the reading's.
  label_stem=dict(
    reading="figure", rules="", by="vlm", relabel=False, **_MISSING
  ),
)


def step(do: str, **changes) -> ml_collections.ConfigDict:
  """One step, with every key of its kind; `changes` replaces some."""
  known = dict(_COMMON, **KINDS[do])
  unknown = sorted(set(changes) - set(known))
  if unknown:
    raise ValueError(f"{do} has no keys {unknown}; it has {sorted(known)}.")
  return ml_collections.ConfigDict(dict(known, do=do) | changes)


def _server(model: str, port: int, **more) -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict(
    dict(
      url=f"http://localhost:{port}/v1",
      model=model,
      key_env="OPENAI_API_KEY",  # variable that holds the key; may be unset
      timeout=300.0,  # seconds for one reply
      tries=6,  # of one request
      pause=1.0,  # seconds before the second try, then doubled
      # In your currency: of a million tokens in and out; of a picture where
      # these are sold by the piece. None: not known, and neither is the cost.
      price=dict(input=None, output=None, picture=None),
      options=dict(),  # further keys of the request
      **more,
    )
  )


def chain(
  name: str,
  inputs: tuple[str, ...],
  steps: dict[str, ml_collections.ConfigDict],
) -> ml_collections.ConfigDict:
  """A chain's config.

  Args:
    name: of the set, which every record carries as its origin.
    inputs: of the first step, where the command line names none.
    steps: name -> step; names sort in the order in which they are made.
  """
  c = ml_collections.ConfigDict()
  c.name = name
  c.inputs = inputs
  c.licence = ""  # noted in the cards
  c.tokenizer = "tiny"  # counts the text tokens: tiny or qwen3:PATH
  c.rows_per_shard = 4096
  # Models [D]; the paper names none. Replies are kept under these sections'
  # names, so that a server may move to another address: with another model or
  # prompt everything is asked anew.
  c.servers = ml_collections.ConfigDict(
    dict(
      vlm=_server(
        "Qwen/Qwen3-VL-30B-A3B-Instruct",
        8000,
        side=768,  # pictures are sent at most so large
        max_tokens=1024,  # of a reply; a longer one is none
      ),
      editor=_server(
        "Qwen/Qwen-Image-Edit-2509", 8001, side=1024, picture_tokens=4096
      ),
      generator=_server(
        "Qwen/Qwen-Image", 8002, side=1024, picture_tokens=4096
      ),
    )
  )
  # Kind of a question -> another prompt for it; see curation/prompts.py.
  c.prompts = ml_collections.ConfigDict(
    dict.fromkeys(
      (
        "caption",
        "face",
        "instruction",
        "judge",
        "ocr",
        "portrait",
        "quality",
        "read",
        "reverse",
        "score",
        "stem",
      ),
      "",
    )
  )
  c.steps = ml_collections.ConfigDict(steps)
  return c
