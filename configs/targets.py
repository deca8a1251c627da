"""Machines to train at full size on: mesh, batch and remat of each.

Weights are split over at most 64 devices (`fsdp`), for two reasons: on 256 a
weight 2,560 wide would leave 10 rows to a device, which no tile of 8 x 128
holds without a copy; and the vision tower's 1,152 do not split in 256 at all.
Further devices hold copies (`data`). Tensor parallelism costs more
communication than it saves at this size, so it is 1 everywhere.

What a block keeps for its backward pass grows with the memory of a chip; full
recomputation alone would cap the share of useful FLOPs at 75%.
"""

import dataclasses

# Kept per token and layer of the 4B, in bytes of bfloat16: attention's output
# 8 K; queries, keys and values 12 K; its projection 5 K; gate and up 39 K.
ATTENTION = "names:attn_out"
PROJECTIONS = "names:query,key,value,attn_out,attn_proj"
PRODUCTS = "names:query,key,value,attn_out,attn_proj,mlp_gate,mlp_up"
# Of the vision tower: 11 K per patch and layer.
VISION = "names:attn_out,mlp_up"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
  """A machine.

  topology: as `--topology` of the planner names it; of each of the slices.
  mesh: devices along slice, data, fsdp and tensor.
  tokens: of a micro-batch, in both buffers, padding included; rounded down to
    whole rows on every device, of which each holds at least one.
  loss_chunk: tokens whose logits a device holds at once.
  remat, vision_remat: what the LLM and the vision tower keep, see
    models/partition.py; of stages at 1024 pixels `remat_1024`,
    `vision_remat_1024`, as their rows are nearly twice as long.
  """

  topology: str
  mesh: tuple[int, int, int, int]
  tokens: int
  loss_chunk: int = 1024
  remat: str
  vision_remat: str = ATTENTION
  remat_1024: str = ATTENTION
  vision_remat_1024: str = ATTENTION

  @property
  def row_shards(self) -> int:
    """Into how many parts the rows of a batch are split."""
    return self.mesh[0] * self.mesh[1] * self.mesh[2]


TARGETS = {
  # Stages 1 to 3 of the 4B and the 1.7B do not fit one H100: weights, moments,
  # averages, gradients and their sum over micro-batches take 177 and 79 GiB.
  # Those of the 0.6B, 32 GiB, and stages 0 and 4 of all do.
  "h100": Target(
    topology="h100:1",
    mesh=(1, 1, 1, 1),
    tokens=2**14,
    remat="full",
    remat_1024="full",
  ),
  "8xh100": Target(
    topology="h100:8",
    mesh=(1, 1, 8, 1),
    tokens=2**17,
    remat=PROJECTIONS,
    remat_1024=PROJECTIONS,
  ),
  "v5e-16": Target(
    topology="v5e:4x4",
    mesh=(1, 1, 16, 1),
    tokens=2**17,
    remat="full",
    vision_remat="full",
    remat_1024="full",
    vision_remat_1024="full",
  ),
  "v5p-128": Target(
    topology="v5p:4x4x4",
    mesh=(1, 1, 64, 1),
    tokens=2**20,
    remat=PRODUCTS,
    vision_remat=VISION,
    remat_1024=PRODUCTS,
    vision_remat_1024=VISION,
  ),
  "v5e-256": Target(
    topology="v5e:16x16",
    mesh=(1, 4, 64, 1),
    tokens=2**21,
    loss_chunk=2048,
    remat=PROJECTIONS,
  ),
  # Gate and up are recomputed, for stage 1 of two rows a device: to keep them
  # a v6e transposes them, which takes longer than the products.
  "v6e-256": Target(
    topology="v6e:16x16",
    mesh=(1, 4, 64, 1),
    tokens=3 * 2**20,
    loss_chunk=4096,
    remat=PROJECTIONS,
    remat_1024=PROJECTIONS,
  ),
  "2xv6e-256": Target(
    topology="v6e:16x16",
    mesh=(2, 4, 64, 1),
    tokens=6 * 2**20,
    loss_chunk=4096,
    remat=PROJECTIONS,
    remat_1024=PROJECTIONS,
  ),
}
DEFAULT = "v5p-128"


def find(name: str) -> Target:
  """By name, or by topology: "v5e-256", "v5e:16x16", "2xv6e:16x16".

  Raises:
    ValueError: none of them.
  """
  if name in TARGETS:
    return TARGETS[name]
  for target in TARGETS.values():
    slices = target.mesh[0]
    prefix = f"{slices}x" if slices > 1 else ""
    if name == prefix + target.topology:
      return target
  raise ValueError(
    f"Unknown target {name!r}; choose one of {list(TARGETS)} or "
    "its topology, or set config.mesh yourself."
  )
