"""Chips, their compilers' flags, meshes and where every weight lies.

The numbers of chips are data sheets' and what libtpu reports; where the 4B's
weights lie is what `sharding.TABLE` makes of their logical axes, by path.
"""

import dataclasses
from typing import Any

from jax.sharding import AbstractMesh

from configs import models
from emma_jax import flops, sharding, xla_flags
from emma_jax.build import model as build_model
from emma_jax.planner import chips
from tests import neutral, tiny
from tests.goldens import store

MESHES = {
  "8xh100": (1, 1, 8, 1),
  "v5e-256": (1, 4, 64, 1),
  "2xv6e-256": (2, 4, 64, 1),
  "tensor": (1, 2, 2, 2),
}
LAYOUT = neutral.layout(
  rows=3,
  und_tokens=700,
  und_pictures=2,
  references=1,
  targets=2,
  height=512,
  width=256,
)
TRAINED = {
  "0": ["adapters/und/fc1/kernel"],
  "3": [
    "adapters/gen/x",
    "heads/velocity/kernel",
    "llm/deep/und/v",
    "llm/embed",
    "vision/embed/kernel",
    "vision/lower/x",
    "vision/versatile/x",
  ],
  "4a": ["vision/stem/x"],
  "embed": ["vision/embed/kernel"],
}


def chip(x: chips.Chip) -> dict[str, Any]:
  fields = dataclasses.asdict(x)
  fields["target"] = store.digest(fields["target"])
  return {
    "numbers": ", ".join(
      f"{k}={v!r}"
      for k, v in fields.items()
      if k != "name" and (v or k != "compiled_as")
    )
  }


def specs(model: build_model.Model, sizes: tuple[int, ...]) -> dict[str, str]:
  """Path -> how a weight is split."""
  mesh = AbstractMesh(sizes, sharding.AXES)
  return {
    path: _text(x.spec)
    for path, x in sharding.weights(model.shapes, model.axes, mesh).items()
  }


def _text(spec) -> str:
  """(None, ("fsdp",)) -> "- fsdp"."""
  parts = [(p,) if isinstance(p, str) else p or () for p in spec]
  return " ".join("+".join(p) or "-" for p in parts)


def places(model: build_model.Model) -> dict[str, str]:
  """A digest a mesh, and on that of 64 all that is not whole, by kind."""
  out = {
    name: store.digest(str(sorted(specs(model, sizes).items())))
    for name, sizes in MESHES.items()
  }
  kinds: dict[str, set[str]] = {}
  for path, spec in specs(model, MESHES["2xv6e-256"]).items():
    names = " ".join(str(n or "-") for n in model.axes[path])
    kinds.setdefault(f"{names} -> {spec}", set()).add(path)
  return out | {
    kind: f"{len(p)} {store.digest(' '.join(sorted(p)))[:8]}"
    for kind, p in kinds.items()
  }


def small() -> dict[str, str]:
  """Every weight of the micro EMMA with the first mesh that splits it all."""
  model = tiny.built()
  found = specs(model, MESHES["tensor"])
  return {
    path: f"{' '.join(str(n or '-') for n in model.axes[path])} -> {spec}"
    for path, spec in found.items()
    if not path.startswith("autoencoder")
  }


def costs() -> dict[str, dict]:
  """FLOPs of steps of the 4B, by part, and of one picture."""
  config = build_model.emma_config(models.emma_4b())
  parts = lambda p: {
    k: f"{v.forward!r} {v.inputs:d}{v.weights:d}" for k, v in p.items()
  }
  native = dataclasses.replace(LAYOUT, und_patches=4096, latent_channels=32)
  token = build_model.emma_config(tiny.model("token_fusion"))
  return {
    **{
      stage: parts(
        flops.step(
          config,
          LAYOUT,
          paths,
          live=0.25,
          draws=1 + (stage == "3"),
          route="stem" if stage == "4a" else "versatile",
        )
      )
      for stage, paths in TRAINED.items()
    },
    "native": parts(
      flops.step(
        config,
        native,
        TRAINED["3"],
        draws=1,
        route="versatile",
        live_patches=0.125,
      )
    ),
    "4b": parts(flops.router_step(config, native, live_patches=0.5)),
    "token": parts(
      flops.step(
        token,
        dataclasses.replace(LAYOUT, fusion="token", height=64, width=64),
        TRAINED["3"],
        draws=1,
        route="versatile",
      )
    ),
    "encoder": {
      size: repr(flops.encoder(build_model.dcae_config(m), 512, 256))
      for size, m in (("sana", models.emma_4b()), ("tiny", models.tiny()))
    },
  }


def every_chip() -> dict[str, dict]:
  return {name: chip(x) for name, x in chips.CHIPS.items()}


def flags() -> dict[str, dict]:
  """Of each chip what reaches the compiler; names where they are few."""
  return {
    name: {
      "what": store.digest(str([dataclasses.astuple(f) for f in of])),
      "names": " ".join(f.name.removeprefix("--xla_") for f in of)
      if len(of) < 6
      else str(len(of)),
      **{k: store.digest(v) for k, v in xla_flags.variables(name).items()},
    }
    for name, of in xla_flags.TABLE.items()
  }


def axes() -> dict[str, Any]:
  return {
    "mesh": " ".join(sharding.AXES),
    "large": sharding.LARGE,
    "whole": repr(sharding.WHOLE),
    "table": "; ".join(
      f"{name}: {' '.join(axes)}" for name, axes in sharding.TABLE
    ),
  }


def cases() -> dict[str, dict]:
  return {
    "chips": every_chip(),
    "flags": flags(),
    "axes": axes(),
    "micro": small(),
    "flops": costs(),
    "4b": places(build_model.model(models.emma_4b())),
  }
