"""Native resolution in the whole model: packed is alone, and static's equal."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax import flow
from emma_jax.data.batching import patches
from emma_jax.data.batching.packing import pack
from emma_jax.data.batching.row_layout import Layout
from emma_jax.data.transforms import Picture, Sample, Text
from emma_jax.models.adapters import sincos_2d, sincos_at
from emma_jax.models.emma import Emma
from emma_jax.models.experts import VisionTower
from emma_jax.structs import Batch
from emma_jax.training import objectives
from tests import neutral, tiny
from tests.models.test_flash import largest

# Room for 12 cells of understanding pictures in a row.
PATCHES = 48
SIZES = ((64, 96), (32, 32), (128, 32))


@functools.cache
def _project() -> np.ndarray:
  rng = np.random.default_rng(1)
  return rng.normal(size=(32 * 32 * 3, tiny.CHANNELS)) / (32 * 32 * 3) ** 0.5


def encoded(picture: Picture) -> Picture:
  """The picture with stand-in latents: a fixed function of a cell's pixels."""
  y, x, _ = picture.pixels_YXC.shape
  z = picture.pixels_YXC.reshape(y // 32, 32, x // 32, 32, 3) / 127.5 - 1
  z = z.transpose(0, 2, 1, 3, 4).reshape(-1, 32 * 32 * 3) @ _project()
  return dataclasses.replace(picture, latent_TC=z.astype(np.float32))


def with_latents(sample: Sample) -> Sample:
  return dataclasses.replace(
    sample,
    parts=tuple(
      encoded(p) if isinstance(p, Picture) else p for p in sample.parts
    ),
  )


def asked(seed: int, *sizes: tuple[int, int]) -> Sample:
  """A question about pictures of these sizes."""
  rng = np.random.default_rng(seed)
  first = 100 + 20 * seed
  pictures = [
    encoded(Picture(rng.integers(0, 256, (*s, 3), np.uint8), "und", 1))
    for s in sizes
  ]
  return Sample(
    "understanding",
    (
      Text((first,)),
      *pictures,
      Text((first + 1, first + 2)),
      Text((first + 3, first + 4), loss=True),
    ),
  )


def layout(variant: str = "paper", **changes) -> Layout:
  sizes = dict(
    und_patches=PATCHES,
    und_pictures=3,
    und_tokens=48,
    latent_channels=tiny.CHANNELS,
  )
  return tiny.layout(variant, **sizes | changes)


def packed(samples: list[Sample], variant: str = "paper", **changes) -> Batch:
  batch, info = pack(samples, layout(variant, **changes))
  assert not info.dropped, info.dropped
  return batch


def objective(variant: str, route: str = "versatile"):
  return neutral.objective(
    model=tiny.emma(variant),
    route=route,
    text_weight=0.25,
    velocity_weight=1.0,
    time_bins=2,
    flow=flow.FlowConfig(time_mean=0.0, time_std=1.0, shift=1.0),
  )


@functools.partial(
  jax.jit, static_argnames=("variant", "route"), compiler_options=tiny.QUICK
)
def metrics(variant: str, params: dict, batch: Batch, route: str) -> dict:
  """All that a step measures, and the router's own objective."""
  o = objective(variant, route)
  draw = lambda name: jax.random.key(len(name))
  out = o(params, batch, draw)[1]
  if o.model.config.vision.experts:
    out |= objectives.RouterObjective(model=o.model)(params, batch, draw)[1]
  return out


def of_the_layouts_size(variant: str) -> tuple[Batch, Batch]:
  """All tasks in the rows, in the static mode and as native pictures."""
  samples = [
    with_latents(s)
    for s in (
      tiny.understanding(0, 1),
      tiny.editing(1),
      tiny.understanding(2, 0),
      tiny.drawing(3),
      tiny.understanding(4, 1),
    )
  ]
  static = packed(samples, variant, und_patches=0)
  native = packed(samples, variant)
  assert native.und_pixels_BNYXC.shape[1] == 0
  np.testing.assert_array_equal(native.und_valid_BN, static.und_valid_BN)
  return static, native


def assert_close(got, want):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      a, b, rtol=0, atol=1e-5 * max(1.0, np.abs(b).max())
    ),
    got,
    want,
  )


@pytest.mark.parametrize(
  "variant, route", [("paper", "router"), ("token_all_shared", "versatile")]
)
def test_pictures_of_the_layouts_size_are_as_in_the_static_mode(variant, route):
  """Losses of all tasks, and the router's."""
  static, native = of_the_layouts_size(variant)
  params = tiny.params(variant)
  want = metrics(variant, params, static, route)
  assert_close(metrics(variant, params, native, route), want)
  assert want["loss/understanding"].value > 0.1


def test_the_towers_gradient_is_that_of_the_static_mode():
  """Of every weight: positions, blocks, both experts and the router."""
  static, native = of_the_layouts_size("paper")
  emma = tiny.emma()

  @functools.partial(jax.jit, compiler_options=tiny.QUICK)
  def gradient(vision, batch):
    def loss(vision):
      und, _, logits = emma.apply(
        {"params": {"vision": vision}},
        batch,
        "router",
        method=Emma.encode_semantic,
      )
      B, _, *_, C = und.shape
      # Padding has features too, which nothing takes.
      und = und.reshape(B, -1, C)[:, :6]
      valid = jnp.repeat(batch.und_valid_BN, 2, axis=1)[..., None]
      used = jnp.where(batch.und_valid_BN[..., None], logits, 0)
      return jnp.sum(jnp.where(valid, jnp.sin(und), 0)) + jnp.sum(used)

    return jax.value_and_grad(loss)(vision)

  vision = tiny.params()["vision"]
  want = gradient(vision, static)
  assert_close(gradient(vision, native), want)
  assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(want[1]["router"]))


def words(variant: str, batch: Batch) -> dict[int, np.ndarray]:
  """Logits by word: where they lay is forgotten."""
  noisy = np.zeros_like(batch.latents.gen_BMTC)
  _, logits = tiny.run(
    tiny.emma(variant),
    tiny.params(variant),
    (batch, batch.latents, noisy, np.zeros(noisy.shape[:2], np.float32)),
  )
  is_word = (batch.visual_BU < 0) & (batch.und_ids.segment > 0)
  return {
    int(batch.tokens_BU[*at]): np.asarray(logits[*at])
    for at in np.argwhere(is_word)
  }


@pytest.mark.parametrize("variant", ["paper", "token_all_shared"])
def test_pictures_of_a_row_do_not_see_each_other(variant):
  """Mixed sizes in one row, several in one sample, are as alone."""
  samples = [asked(0, SIZES[0]), asked(1, SIZES[1], SIZES[2]), asked(2)]
  together = words(variant, packed(samples, variant, rows=1))
  assert len(together) == 15
  for sample in samples:
    alone = words(variant, packed([sample], variant, rows=1))
    for word, value in alone.items():
      np.testing.assert_allclose(together[word], value, atol=2e-5)
      assert np.abs(value).max() > 0.1


def test_each_picture_of_a_row_goes_to_the_expert_of_its_own_decision():
  """Several in a row, in one sample and in two, of different decisions."""
  batch = packed(
    [
      asked(0, SIZES[1], (32, 64)),
      asked(1, (64, 32), SIZES[2]),
      asked(2, (32, 96), SIZES[1]),
    ],
    rows=2,
    und_pictures=4,
    und_tokens=64,
  )
  assert batch.und_valid_BN.sum(axis=1).tolist() == [4, 2]
  tower = VisionTower(tiny.emma().config.vision)
  values = batch.patches.values_BWC / np.float32(127.5) - 1
  vision = tiny.params()["vision"]

  @functools.partial(jax.jit, compiler_options=tiny.QUICK)
  def run(more):
    """With so much more in favour of STEM."""
    fc2 = vision["router"]["fc2"]
    fc2 = fc2 | {"bias": fc2["bias"] + jnp.stack([0 * more, more])}
    router = vision["router"] | {"fc2": fc2}
    return tower.apply(
      {"params": vision | {"router": router}},
      batch.patches,
      values,
      "router",
      method="packed",
    )

  general, logits = run(-50.0)
  by = {False: np.asarray(general), True: np.asarray(run(50.0)[0])}
  ahead = np.asarray(logits[..., 1] - logits[..., 0]) + 50
  middle = float(np.median(ahead[batch.und_valid_BN]))
  went = ahead > middle
  assert 0 < went[0].sum() < 4
  routed = np.asarray(run(-middle)[0])
  token_BJ = batch.patches.picture_BW[:, ::4]
  for row, token in np.argwhere(token_BJ > 0):
    stem = bool(went[row, token_BJ[row, token] - 1])
    np.testing.assert_allclose(
      routed[row, token], by[stem][row, token], rtol=0, atol=1e-5
    )
    assert np.abs(by[not stem][row, token] - routed[row, token]).max() > 1e-2


def test_one_program_for_all_sizes():
  emma, traces = tiny.emma(), []

  @jax.jit
  def run(params, batch):
    traces.append(1)
    return emma.apply(
      {"params": params}, batch, batch.latents, None, None, "router"
    ).hidden_BUD

  for sizes in ((SIZES[0],), SIZES[1:], (SIZES[2], SIZES[2]), ()):
    batch = packed([asked(0, *sizes)], targets=0)
    assert np.isfinite(run(tiny.params(), batch)).all()
  assert len(traces) == 1


def test_no_square_of_patches_is_made():
  """A row of 16384 patches, 4096 tokens, through the tower and back."""
  W, tower = 16384, tiny.emma().config.vision
  row = patches.empty(1, 3, W)

  def loss(vision, values):
    y, logits = VisionTower(tower).apply(
      {"params": vision}, row, values, "router", method="packed"
    )
    return y.sum() + logits.sum()

  traced = jax.make_jaxpr(jax.grad(loss))(
    tiny.shapes()["vision"], jax.ShapeDtypeStruct((1, W, 768), jnp.float32)
  )
  assert W * 100 < largest(traced.jaxpr) < W * W / 4


def test_native_sizes_without_latents_name_the_command():
  batch = packed([asked(0, SIZES[0])], latent_channels=0)
  with pytest.raises(ValueError, match="emma-data encode-latents"):
    tiny.emma().apply({}, batch, method=Emma.latents)


def test_positions_of_cells_are_those_of_the_grid():
  """To 5e-7, up to the longest side that a row of 4096 tokens can hold."""
  for rows, columns in ((3, 5), (1, 4096), (64, 64), (4000, 1)):
    cells = np.indices((rows, columns)).reshape(2, -1).T[None]
    np.testing.assert_allclose(
      sincos_at(cells.astype(np.int32), 16, 10000.0)[0],
      sincos_2d(rows, columns, 16, 10000.0),
      atol=5e-7,
    )


# ---------------------------------------------------------------- packing


def test_patches_are_pictures_and_back():
  pictures = [asked(0, *SIZES).parts[1 + i].pixels_YXC for i in range(3)]
  out = patches.empty(2, 4, 4 * 12)
  for i, (picture, cell) in enumerate(zip(pictures, (0, 6, 7))):
    patches.put(out, picture, 1, i, cell)
  back = patches.pictures(out, 1)
  assert [x.shape for x in back] == [*(x.shape for x in pictures), (0, 0, 3)]
  for got, want in zip(back, pictures):
    np.testing.assert_array_equal(got, want)
  assert out.picture_BW[1].tolist() == ([1] * 24 + [2] * 4 + [3] * 16 + [0] * 4)
  assert out.grid_BN2[1].tolist() == [[4, 6], [2, 2], [8, 2], [0, 0]]
  assert not out.values_BWC[0].any()
  # The four patches of the second cell of the first picture.
  assert out.cell_BW2[1, 4:8].tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]


@pytest.mark.parametrize("fusion", ["channel", "token"])
def test_the_needs_of_native_pictures(fusion):
  room = dataclasses.replace(layout(), fusion=fusion)
  sample = asked(1, SIZES[1], SIZES[2])
  cost = 5 * (1 + (fusion == "token"))
  assert room.row_cost(sample) == dict(
    und_tokens=5 + cost, und_pictures=2, references=0, targets=0, und_patches=20
  )
  assert room.length(sample) == 5 + cost
  edit = with_latents(tiny.editing(1))
  assert room.row_cost(edit)["und_patches"] == 0
  assert not room.too_large_reason(edit) and not room.too_large_reason(sample)


@pytest.mark.parametrize(
  "sample, words",
  [
    (asked(0, (128, 128)), "und_patches=64 of a row but the layout has 48"),
    (asked(0, (32, 32), (32, 32), (32, 32), (32, 32)), "und_pictures=4"),
    (
      Sample(
        "understanding", (Picture(np.zeros((48, 32, 3), np.uint8), "und"),)
      ),
      "multiples of 32",
    ),
    (
      Sample(
        "understanding", (Picture(np.zeros((32, 32, 3), np.uint8), "und"),)
      ),
      "encode-latents",
    ),
    (
      Sample(
        "understanding",
        (
          Picture(
            np.zeros((32, 32, 3), np.uint8), "und", latent_TC=np.zeros((2, 8))
          ),
        ),
      ),
      r"\(2, 8\) instead of",
    ),
  ],
)
def test_what_no_row_can_hold_is_dropped_with_the_reason(sample, words):
  _, info = pack([sample], layout())
  (dropped,) = info.dropped
  assert dropped.never
  assert re.search(words, dropped.reason), dropped.reason


def test_the_layout_checks_itself():
  with pytest.raises(ValueError, match="und_patches=46 is not a multiple of 4"):
    layout(und_patches=46)
  with pytest.raises(ValueError, match="und_patches=48 without und_pictures"):
    layout(und_pictures=0)


def test_rows_fill_by_patches_too():
  """Two pictures of six cells fill a row's twelve; the third goes on."""
  samples = [asked(i, SIZES[0]) for i in range(3)]
  _, info = pack(samples, layout(und_tokens=200))
  assert info.placed == ((0, 1), (2,))
