"""Latents made beforehand are those of the step; training takes them."""

import io
import pathlib
import shutil

import chex
import jax
import numpy as np
from PIL import Image
import pytest

from emma_jax import sharding
from emma_jax.build import config_file
from emma_jax.build import data as build_data
from emma_jax.build import run as build_run
from emma_jax.checkpoints.weight_files import save_weights
from emma_jax.cli import common, data
from emma_jax.data.batching import patches
from emma_jax.data.records import schema
from emma_jax.data.records.source import RecordsSource
from emma_jax.data.text.tokenizer import TinyTokenizer
from emma_jax.evals import data_sheet
from emma_jax.models.emma import Emma
from emma_jax.sampling import latents
from emma_jax.structs import Drawing, Editing, Understanding
from emma_jax.training import loop, step
from emma_jax.training.latents import WrongLatents, fingerprint
from tests import tiny
from tests.data import made

# Micro pictures of 32 x 64; native ones of 1 to 6 cells.
CONFIG = """
from configs import stages
from tests import tiny

def get_config():
  c = tiny.config()
  c.name = "latents"
  c.data.update(max_tokens=6, text_dropout=0.0, reference_dropout=0.0,
                max_crop=0.9,
                sources=dict(files="records:nowhere"), max_bad_share=1.0)
  c.train.update(log_every=1, evaluate=False)
  c.stages = {"s": stages.stage(
      "3_quality", steps=2, rows=2, samples_per_batch=6, und_tokens=96,
      und_pictures=3, references=2, targets=3, mixture=((0.0, {"files": 1.0}),),
      policy=(("autoencoder/.*", "frozen"), ("vision/(stem|router)/.*",
              "frozen"), (".*", "train")), warmup_steps=0,
      load=((".*", "weights:WEIGHTS"),))}
  return c
"""
NATIVE = {"data.native": "true", "stages.s.und_patches": "48"}


def _png(seed: int, y: int, x: int) -> bytes:
  pixels = np.random.default_rng(seed).integers(0, 256, (y, x, 3), np.uint8)
  out = io.BytesIO()
  Image.fromarray(pixels).save(out, "PNG")
  return out.getvalue()


def _stored() -> list[schema.Stored]:
  talk = lambda i: ((f"red {i}?", "blue"),)
  records = [
    Understanding(pictures=(_png(0, 40, 70),), turns=talk(0), id="0"),
    Drawing(prompt="red", picture=_png(1, 32, 64), id="1"),
    Editing(
      sources=(_png(2, 50, 64), _png(7, 70, 33)),
      instruction="do",
      target=_png(3, 64, 60),
      id="2",
    ),
    Understanding(
      pictures=(_png(4, 32, 32), _png(5, 64, 96)), turns=talk(3), id="3"
    ),
    Understanding(pictures=(), turns=talk(4), id="4"),
    Understanding(pictures=(_png(6, 61, 90),), turns=talk(5), id="5"),
  ]
  return [schema.Stored(record=r) for r in records]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """A data set of two shards, weights, a config, and both kinds of latents."""
  root = tmp_path_factory.mktemp("latents")
  made.dataset(root / "set", _stored(), shards=2)
  save_weights(root / "w.safetensors", tiny.params(), {})
  config = CONFIG.replace("WEIGHTS", str(root / "w.safetensors"))
  (root / "config.py").write_text(config)
  # In two parts, then once more: nothing is left to do.
  for shard in ("1/2", "0/2", "0/1"):
    assert _encode(root, "--shard", shard, "--pixels", 2 * 32 * 64) == 0
  assert _encode(root, "--config.data.native=true", "--pixels", 1) == 0
  return root


def _encode(root, *more) -> int:
  return common.run(
    data.main,
    [
      str(a)
      for a in (
        "encode-latents",
        root / "set",
        "--config",
        root / "config.py",
        "--weights",
        root / "w.safetensors",
        "--dtype",
        "float32",
        *more,
      )
    ],
  )


def _config(root, kind: str = "stored", **changes):
  config = config_file.load(
    str(root / "config.py"), {"data.latents": kind, **changes}
  )
  config.data.sources.files = f"records:{root / 'set'}"
  return config


def test_stored_latents_are_those_of_the_step(place):
  """To 1e-5 of the largest: other batches of pictures round differently."""
  steps = build_data.batches(_config(place, "step"), "s")[0].batch
  stored = build_data.batches(_config(place), "s")[0].batch
  assert steps.latents is None and steps.patches is None
  chex.assert_trees_all_equal(
    dict(enumerate(jax.tree.leaves(stored.replace(latents=None)))),
    dict(enumerate(jax.tree.leaves(steps))),
  )
  emma = tiny.emma()
  made_now = jax.jit(
    lambda p, b: emma.apply({"params": p}, b, method=Emma.latents),
    compiler_options=tiny.QUICK,
  )(tiny.params(), steps)
  valid = dict(
    und_BNTC=steps.und_valid_BN,
    ref_BRTC=steps.ref_valid_BR,
    gen_BMTC=steps.gen_task_BM > 0,
  )
  for name, there in valid.items():
    got = getattr(stored.latents, name)[there]
    want = np.asarray(getattr(made_now, name))[there]
    assert len(want) and np.abs(want).max() > 1e-3
    np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())
  assert stored.latents.native_BJC is None


def test_native_latents_are_those_of_each_picture_alone(place):
  batch = build_data.batches(_config(place, **NATIVE), "s")[0].batch
  grids = batch.patches.grid_BN2[batch.und_valid_BN].tolist()
  assert sorted(grids) == [[2, 2], [4, 6], [4, 6], [4, 6]]
  assert batch.ref_pixels_BRYXC.shape[2:4] == (32, 64)  # one size, as ever
  autoencoder = tiny.params()["autoencoder"]
  for row in range(2):
    cell = 0
    for picture in filter(np.size, patches.pictures(batch.patches, row)):
      want = latents.encode(tiny.emma(), autoencoder, picture[None])
      want = np.asarray(want).reshape(-1, tiny.CHANNELS)
      got = batch.latents.native_BJC[row, cell : cell + len(want)]
      np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())
      cell += len(want)
    assert cell and not batch.latents.native_BJC[row, cell:].any()


def test_a_step_takes_native_batches(place):
  """The program is made for the very arrays that the stream brings."""
  run = build_run.run(_config(place, **NATIVE))
  (stage,), mesh = run.stages, sharding.make_mesh(run.mesh)
  step_fn, state, abstract = step.abstract_step(run, stage, mesh)
  batch = stage.source[0].batch
  kinds = lambda tree: [(x.shape, x.dtype) for x in jax.tree.leaves(tree)]
  assert kinds(abstract) == kinds(batch)
  assert jax.tree.structure(abstract) == jax.tree.structure(batch)
  _, metrics = jax.eval_shape(step_fn, state, abstract)
  assert "loss/understanding" in metrics


def test_the_sheet_shows_native_pictures(place):
  """Read back from the arrays: each in its size, with its tokens."""
  config = _config(place, **NATIVE)
  page = data_sheet.Page(build_data.batches(config, "s"), TinyTokenizer())
  html = page.html([0], 2, "native")
  assert html.count("question, 96x64, 6 tokens") == 3
  assert html.count("question, 32x32, 1 tokens") == 1
  assert html.count("reference, 64x32, 2 tokens") == 2


def test_another_autoencoder_is_refused(place, tmp_path):
  other = tiny.params(seed=1)
  save_weights(tmp_path / "o.safetensors", other, {})
  config = _config(place)
  config.stages.s.load = ((".*", f"weights:{tmp_path / 'o.safetensors'}"),)
  with pytest.raises(WrongLatents, match=r"sources \['files'\].*other weights"):
    loop.train(build_run.run(config), tmp_path / "run")


def test_the_fingerprint_is_of_what_encodes():
  own = tiny.params()["autoencoder"]
  kept = fingerprint(own)
  half = jax.tree.map(lambda x: jax.numpy.asarray(x, "bfloat16"), own)
  assert fingerprint(half) == kept
  assert fingerprint(own | {"decoder": {}}) == kept
  other = tiny.params()["autoencoder"]
  other["latent"]["scale"][0] *= 1.1
  assert fingerprint(other) != kept


@pytest.mark.parametrize(
  "changes, words",
  [
    (dict(NATIVE, **{"data.latents": "step"}), "emma-data encode-latents"),
    ({"stages.s.und_patches": "48"}, "data.native=True"),
    ({"data.latents": "kept"}, "choose step or stored"),
    ({"data.height": "64"}, "no latents for .*there are some for"),
  ],
)
def test_configs_that_cannot_work_say_what_to_do(place, changes, words):
  with pytest.raises(ValueError, match=words):
    build_run.run(_config(place, **changes))


def test_a_source_that_is_no_folder_of_records_is_refused(place):
  config = _config(place)
  config.data.sources.files = "world:drawing:train"
  with pytest.raises(ValueError, match="emma-data convert"):
    build_data.batches(config, "s")


def test_what_was_begun_goes_on_and_what_differs_is_refused(
  place, tmp_path, capsys
):
  """A killed process leaves a spool and no marker; its part is made again."""
  root = tmp_path / "copy"
  shutil.copytree(place, root)
  wanted = build_data.latent_settings(_config(root))
  source = RecordsSource(str(root / "set"), latents=wanted)
  folder = pathlib.Path(source.latents.folder)
  want = (folder / "part-00001.array_record").read_bytes()
  (folder / "part-00001.json").unlink()
  (folder / "part-00001.array_record").unlink()
  (folder / "part-00001.spool").write_bytes(b"half")
  (folder / "part-00001.array_record.tmp").write_bytes(b"half")
  assert _encode(root, "--pixels", 2 * 32 * 64) == 0
  assert "1 shards encoded, 1 were there" in capsys.readouterr().out
  assert (folder / "part-00001.array_record").read_bytes() == want
  assert not list(folder.glob("*.spool")) + list(folder.glob("*.tmp"))
  for more, words in (
    (("--dtype", "float16"), "another dtype"),
    (("--shard", "2/2"), "0 <= I < N"),
    (("--pixels", 0), "must be positive"),
  ):
    assert _encode(root, *more) == 2
    assert words in capsys.readouterr().err


def test_a_broken_picture_is_a_hole(tmp_path, place, capsys):
  """It is encoded by no one and counted by training, with its record."""
  stored = _stored()
  folder = made.dataset(tmp_path / "set", stored)
  spoiled = (folder / "part-00000.array_record").read_bytes()
  picture = stored[1].record.picture
  # Longer ones are stored as they are: the bytes can be found.
  at = spoiled.find(picture[40:80])
  assert at > 0
  shutil.copy(place / "config.py", tmp_path)
  shutil.copy(place / "w.safetensors", tmp_path)
  broken = bytearray(spoiled)
  broken[at] ^= 1
  (folder / "part-00000.array_record").write_bytes(broken)
  assert _encode(tmp_path) == 0
  assert "1 of 8 pictures have no latents" in capsys.readouterr().err
  source = RecordsSource(str(folder))
  assert len(source) == 6
  info = build_data.batches(_config(tmp_path), "s")[0].info
  assert len(info.bad) == 1 and "cannot be read" in info.bad[0].reason
