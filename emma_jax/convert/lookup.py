"""What lies in a folder whose weights are not where they were looked for.

People give the folder above, a cache of the hub, a whole pipeline, an adapter,
weights that another program saved, or a download that goes on yet. The error
says which, and what to give instead.
"""

import pathlib

from emma_jax.convert.headers import FolderError, some

_CONFIG = "config.json"
# Other files that tell what a folder is -> what to do.
_FOREIGN = {
  "adapter_config.json": "an adapter (LoRA and the like); merge it into its"
  " base first (in PEFT merge_and_unload, then save_pretrained) and give that"
  " folder",
  "model_index.json": "a whole pipeline of diffusers; give the folder of its"
  " autoencoder, vae",
  "open_clip_config.json": "a model of open_clip; get the repository of"
  " transformers, such as google/siglip2-so400m-patch16-512",
  "params.json": "a model in its authors' own format; get the repository of"
  " transformers",
}
# Weights in other forms, by the ends of their names -> what to do.
_OTHERS = {
  (".incomplete", ".aria2", ".part", ".crdownload", ".download"): "a download"
  " that is not finished; start it again, it goes on where it was",
  (".distcp",): "parts of torch.distributed; join them first (`accelerate"
  " merge-weights`, or torch's dcp_to_torch_save) and save the model as"
  " safetensors",
  (".xml",): "a model of OpenVINO; get the safetensors of the original release",
  (".bin", ".pt", ".pth", ".ckpt"): "which only torch reads; save it again"
  " with safe_serialization=True",
  (".gguf",): "whose weights are mostly quantised, for llama.cpp; get the"
  " safetensors of the original release in bfloat16",
  (".msgpack", ".h5", ".onnx", ".npz"): "which are not read; get the"
  " safetensors of the same release",
}
_MOST = 1000  # entries that are looked at


def explain_no_config(path: pathlib.Path) -> None:
  """Raises FolderError where it can tell why a folder has no config.json."""
  if (path / _CONFIG).is_symlink():
    return  # who reads it says where the link goes
  for name, what in _FOREIGN.items():
    if (path / name).is_file():
      raise FolderError(f"{path} has no {_CONFIG} but {name}: it is {what}.")
  for pattern in ("*", "snapshots/*", "*/snapshots/*"):  # as caches have them
    below = sorted(p.parent for p in path.glob(f"{pattern}/{_CONFIG}"))[:_MOST]
    if below:
      raise FolderError(
        f"{path} has no {_CONFIG}; give one of the folders in it that have:"
        f" {some(below)}."
      )


def refuse_unfinished(file: pathlib.Path) -> None:
  """Raises FolderError beside the notes of a download that goes on."""
  notes = file.with_name(f"{file.name}.aria2")
  if notes.exists():
    raise FolderError(
      f"{file} is not finished, as {notes.name} is beside it: start aria2c"
      " again, it goes on where it was."
    )


def others(path: pathlib.Path) -> str:
  """What to do where there are no safetensors; ends a sentence."""
  names = sorted(p.name for p in path.iterdir())
  below = (*path.glob("*/*"), *path.glob(".cache/huggingface/download/*"))
  names += sorted(str(p.relative_to(path)) for p in below)[:_MOST]
  for ends, remedy in _OTHERS.items():
    found = [name for name in names if name.lower().endswith(ends)]
    if found:
      return f" but {some(found)}, {remedy}"
  return "; download model.safetensors, or the shards and their index"
