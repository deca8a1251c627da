"""What explains tensors that do not fit: the ways in which folders are made.

By the names that programs leave: quantisation, adapters, wrappers of training
loops, other layouts, another code base, a config.json of another depth. Each
explanation is a sentence that says what to do.
"""

import collections
from collections.abc import Iterator, Sequence
import re

# What tools for quantisation call what they store beside or for a weight.
_QUANTISED = re.compile(
  r".*[._](qweight|qzeros|scales|g_idx|weight_scale(_inv|_2)?|weight_packed"
  r"|weight_shape|weight_zero_point|input_scale|[kv]_scale|absmax|quant_map|SCB"
  r"|weight_format|quant_state[._\w]*|nested_absmax|nested_quant_map)"
)
_ADAPTED = re.compile(
  r"(.*[._])?(lora_\w+|base_layer|modules_to_save|hada_\w+|lokr_\w+)([._].*)?"
)
# Of torch.compile, FSDP, activation checkpointing and DistributedDataParallel.
_WRAPPERS = (
  r"\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|module)\."
)
_LAYER = re.compile(r"(.*\blayers)\.(\d+)\..*")
_HEAD = r"(vision_model\.)?head\..*"
# Pattern -> what names that have it are; of some of the unknown ones.
_LAYOUTS = (
  (
    r".*[._](qkv_proj|gate_up_proj|query_key_value|in_proj_qkv)[._].*",
    "are of a layout that fuses matrices, as programs that serve models have"
    " it; save the model from transformers and give that folder",
  ),
  (
    r".*\b(op_list|project_in|project_out|context_module|local_module)\b.*",
    "are of mit-han-lab's own code; get the repository of the same name that"
    " ends in -diffusers",
  ),
  (
    r"(visual\.)?(trunk\.)?blocks\.\d+\..*",
    "are of timm or open_clip; get the repository of transformers, such as"
    " google/siglip2-so400m-patch16-512",
  ),
)
# Where nothing else is wrong: pattern of all missing or unknown names -> what
# it means.
_MISSING = (
  (
    r"lm_head\.weight",
    "The output head alone is missing: set tie_word_embeddings to true in"
    " config.json if the model shares its embeddings with it, as Qwen3 of up"
    " to 4B does",
  ),
  (
    _HEAD,
    "The pooling head alone is missing: set vision_use_head to false in"
    " config.json if the model has none",
  ),
)
_UNKNOWN = (
  (
    _HEAD,
    "The files have a pooling head, and config.json says that there is none:"
    " set vision_use_head to true",
  ),
  (
    r".*rotary_emb\.inv_freq",
    "The unknown ones are RoPE's frequencies, which are no weights: leave them"
    " out, as transformers 4.32 and later do when they save",
  ),
)


def of_names(
  unknown: Sequence[str], missing: Sequence[str], integers: bool = False
) -> list[str]:
  """Sentences; none where nothing known explains the names.

  Args:
    unknown: tensors of the files that no entry of our table names.
    missing: names of the table that the files lack.
    integers: whether integers lie where weights belong.
  """
  quantised = _quantised(unknown, integers)
  return [*quantised, *(() if quantised else _others(unknown, missing))]


def _others(unknown: Sequence[str], missing: Sequence[str]) -> list[str]:
  if adapters := [name for name in unknown if _ADAPTED.fullmatch(name)]:
    return [
      f"Names such as {adapters[0]} are an adapter's (LoRA and the like);"
      " merge it into its base first (in PEFT merge_and_unload, then"
      " save_pretrained) and give that folder."
    ]
  if unknown and missing:
    return [*(_renamed(unknown, missing) or _layout(unknown))][:1]
  for names, known in ((missing, _MISSING), (unknown, _UNKNOWN)):
    for pattern, meaning in known:
      if names and all(re.fullmatch(pattern, name) for name in names):
        return [f"{meaning}."]
  return [*_depth(unknown, missing)]


def _quantised(unknown: Sequence[str], integers: bool) -> list[str]:
  names = [name for name in unknown if _QUANTISED.fullmatch(name)]
  if not names and not integers:
    return []
  seen = f"Names such as {names[0]}" if names else "Integers for weights"
  return [
    f"{seen} are what quantised checkpoints hold (GPTQ, AWQ, bitsandbytes, fp8"
    " and the like); get the release in bfloat16, or dequantise it and save it"
    " again."
  ]


def _renamed(unknown: Sequence[str], missing: Sequence[str]) -> list[str]:
  """Where all that is missing is there by another name: the renaming."""
  wanted = set(missing)
  bare = [re.sub(_WRAPPERS, "", name) for name in unknown]
  if bare != list(unknown) and wanted <= {e for n in bare for e in _ends(n)}:
    words = {f"{w}." for w in re.findall(_WRAPPERS, " ".join(unknown))}
    # The longest first: one word ends in another.
    order = sorted(words, key=lambda word: (-len(word), word))
    return [_drop(order, "".join(f".replace({w!r}, '')" for w in order))]
  one = missing[0]
  for name in unknown:
    if name.endswith(f".{one}"):  # something stands before the name
      prefix = name.removesuffix(one)
      if wanted <= {n.removeprefix(prefix) for n in unknown}:
        return [_drop([prefix], f".removeprefix({prefix!r})")]
    elif one.endswith(f".{name}"):  # something is not before it
      prefix = one.removesuffix(name)
      if wanted <= {prefix + n for n in unknown}:
        return [
          f"All that is missing is there under names without {prefix!r}; add it"
          f" and save them again: {{{prefix!r} + k: x for k, x in"
          " tensors.items()}."
        ]
  return []


def _ends(name: str) -> Iterator[str]:
  """The name, and what is left of it after each dot."""
  while name:
    yield name
    _, _, name = name.partition(".")


def _drop(words: Sequence[str], code: str) -> str:
  return (
    "All that is missing is there under longer names, with"
    f" {' and '.join(map(repr, words))} in them; drop that and save them again:"
    f" {{k{code}: x for k, x in tensors.items()}}."
  )


def _layout(unknown: Sequence[str]) -> Iterator[str]:
  for pattern, meaning in _LAYOUTS:
    for name in unknown:
      if re.fullmatch(pattern, name):
        yield f"Names such as {name} {meaning}."
        break


def _depth(unknown: Sequence[str], missing: Sequence[str]) -> Iterator[str]:
  """Whole layers on one side alone: a config.json of another depth."""
  found = [_LAYER.fullmatch(name) for name in (*unknown, *missing)]
  counts = collections.Counter(int(match[2]) for match in found if match)
  if not all(found) or min(counts, default=0) < 1 or min(counts.values()) < 4:
    return  # a layer has more tensors than four, and the first is in any model
  first, last = min(counts), max(counts)
  which = f"{first} to {last}" if first < last else f"{first}"
  yield (
    f"The files have layers that config.json does not count, {which};"
    if unknown
    else f"config.json counts layers that the files do not have, {which};"
  ) + " correct num_hidden_layers, or get both again."
