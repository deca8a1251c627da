"""Real files in and out, and mistakes without a stack trace."""

from pathlib import Path

import numpy as np
from PIL import Image
import pytest

from emma_jax import rules
from emma_jax.build import config_file
from emma_jax.build import data as build_data
from emma_jax.checkpoints.weight_files import save_weights
from emma_jax.cli.sample import main
from emma_jax.exits import Exit
from emma_jax.sampling import canvases
from tests.sampling import small


def saved(path: Path, params: dict) -> str:
  """The flag that names a file of these weights, of the small config."""
  config = small.config()
  meta = dict(
    config=config,
    fingerprints=build_data.fingerprints(config["data"]),
    step=7,
    scores={},
    router_trained=False,
  )
  save_weights(path, params, meta)
  return f"--checkpoint={path}"


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
  path = tmp_path_factory.mktemp("weights") / "w.safetensors"
  return saved(path, small.random_params(small.config()["model"]))


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def picture(tmp_path) -> str:
  path = tmp_path / "in.png"
  Image.fromarray(small.picture(0, 70, 100)).save(path)
  return str(path)


def test_draw_one_file(tmp_path, weights, capsys):
  out = tmp_path / "new" / "a.webp"
  assert (
    main(
      [
        "draw",
        weights,
        "--prompt",
        "red",
        "--out",
        str(out),
        "--size",
        "40x64",
        "--config.sample.steps=1",
      ]
    )
    == 0
  )
  with Image.open(out) as image:
    assert (image.format, image.size) == ("WEBP", (64, 40))
  said = capsys.readouterr()
  assert "a.webp  red" in said.out and "trained for 7 steps" in said.err


def test_draw_many_into_a_folder(tmp_path, weights):
  out = tmp_path / "many"
  assert (
    main(
      [
        "draw",
        weights,
        "--prompt",
        "red",
        "--prompt",
        "",
        "--count",
        "2",
        "--out",
        str(out),
        "--steps",
        "2",
        "--guidance",
        "2",
      ]
    )
    == 0
  )
  files = sorted(out.iterdir())
  assert [f.name for f in files] == [f"{i:03d}.png" for i in range(4)]
  first, second = (np.asarray(Image.open(f)).astype(int) for f in files[:2])
  assert np.abs(first - second).max() > 5  # other noise for the same prompt


def test_edit_keeps_the_size(tmp_path, weights, picture):
  out = tmp_path / "out.JPG"
  assert (
    main(
      [
        "edit",
        weights,
        "--image",
        picture,
        "--instruction",
        "do",
        "--out",
        str(out),
        "--text-guidance",
        "2",
      ]
    )
    == 0
  )
  with Image.open(out) as image:
    assert (image.format, image.size) == ("JPEG", (100, 70))


def test_an_image_of_several_pictures_is_one_edit(
  tmp_path, weights, picture, monkeypatch
):
  other = str(tmp_path / "other.png")
  Image.new("RGB", (30, 20), "red").save(other)
  asked = []
  real = canvases.edits

  def edits(requests, pictures, instructions, **guidance):
    asked.append((pictures, instructions))
    return real(requests, pictures, instructions, **guidance)

  monkeypatch.setattr(canvases, "edits", edits)  # once: pictures may be large
  out = str(tmp_path / "out")
  arguments = ["edit", weights, "--image", picture, other, "--image", other]
  arguments += ["--instruction", "do", "--out", out, "--steps", "1"]
  assert main(arguments) == 0
  assert asked == [([[picture, other], [other]], ["do", "do"])]
  for i, size in enumerate([(100, 70), (30, 20)]):
    with Image.open(f"{out}/00{i}.png") as image:
      assert image.size == size


def test_ask_answers_each_question(weights, picture, capsys):
  arguments = [
    "ask",
    weights,
    "--image",
    picture,
    "--question",
    "what?",
    "--question",
    "why?",
    "--max-tokens",
    "3",
  ]
  assert main(arguments) == 0
  first = capsys.readouterr().out
  assert main(arguments) == 0
  assert capsys.readouterr().out == first
  assert main([*arguments, "--temperature", "2", "--top-p", "0.9"]) == 0


DRAW = ["draw", "--prompt", "a"]
EDIT = ["edit", "--out", "o.png", "--instruction", "x"]


# Arguments, and what is said of them (tests/hostile asks them, too).
MISTAKES = [
  ([*DRAW, "--out", "o.gif"], ["o.gif", ".png", ".webp"]),
  ([*DRAW, "--out", "/dev/null/o.png"], ["/dev/null is no folder"]),
  ([*DRAW, "--out", "/dev/null"], ["/dev/null is no folder"]),
  ([*DRAW, "--out", "o.png", "--count", "2"], ["o.png", "2", "folder"]),
  ([*DRAW, "--out", "o.png", "--count", "0"], ["--count 0"]),
  (
    [*DRAW, "--out", "o", "--count", "1000000000"],
    ["--count 1000000000 must be in 1..10000"],
  ),
  ([*DRAW, "--out", "o.png", "--steps", "0"], ["steps=0"]),
  (
    [*DRAW, "--out", "o.png", "--size", "100000x100000"],
    ["100000x100000 has 10000000000 pixels", "data.max_pixels=64000000"],
  ),
  (
    [*DRAW, "--out", "o.png", "--size", "1x1000000"],
    ["1x1000000 is thinner than 1:100"],
  ),
  (
    [*DRAW, "--out", "o", "--size", "7000x7000", "--count", "50"],
    ["50 pictures of 7000x7000", "Ask for fewer"],
  ),
  (
    [*DRAW, "--out", "o.png", "--steps", "1000001"],
    ["steps=1000001 must be in 1..1000"],
  ),
  (
    ["draw", "--prompt", "x" * 50_000, "--out", "o.png"],
    ["--prompt has 50000 characters; at most 20000", "Shorten it"],
  ),
  (
    [*EDIT[:-1], "y" * 100_000, "--image", "PICTURE"],
    ["--instruction has 100000 characters; at most 20000"],
  ),
  (
    ["ask", "--question", "a", "--question", "y" * 100_000],
    ["Conversation 0 takes 100", "sample.max_context=32768"],
  ),
  (
    ["ask", "--question", "a", "--max-tokens", "1000000000"],
    ["max_tokens=1000000000 is more than sample.max_context=32768"],
  ),
  (
    [*DRAW, "--out", "o.png", "--config.sample.stepz=3"],
    ["Did you mean sample.steps?"],
  ),
  ([*DRAW, "--out", "o.png", "--config.model.dtype=x"], ["model.dtype"]),
  (
    [*DRAW, "--out", "o.png", "--checkpoint", "nowhere"],
    ["nowhere", "working directory"],
  ),
  ([*EDIT, "--image", "missing.png"], ["missing.png", "no such file"]),
  ([*EDIT, "--image", "BROKEN"], ["broken.png"]),
  ([*EDIT[:-1], " ", "--image", "PICTURE"], ["--instruction is empty"]),
  (
    [*EDIT, *["--image", "PICTURE"] * 3, "--instruction", "y"],
    ["3 --image and 2 instructions"],
  ),
  (["ask", "--question", ""], ["--question is empty"]),
]


@pytest.mark.parametrize("arguments, words", MISTAKES)
def test_mistakes(tmp_path, weights, picture, capsys, arguments, words):
  broken = tmp_path / "broken.png"
  broken.write_bytes(b"no picture")
  names = {"BROKEN": str(broken), "PICTURE": picture}
  arguments = [names.get(a, a) for a in arguments]
  command, *rest = arguments
  assert main([command, weights, *rest]) == 2
  said = capsys.readouterr()
  assert "Traceback" not in said.err and not said.out
  assert len(said.err) < 1000  # no text of the user's is echoed whole
  for word in words:
    assert word in said.err


@pytest.mark.parametrize(
  "arguments",
  [
    [*DRAW, "--out", "o.png", "--size", "100000x100000"],
    ["draw", "--prompt", "漢" * 19_999, "--out", "o.png"],
    [*DRAW, "--out", "o.png", "--steps", "5000"],
    [*EDIT, "--image", "BROKEN"],
    ["ask", "--question", "y" * 100_000],
    ["ask", "--question", "y", "--image", "BROKEN"],
  ],
)
def test_requests_are_refused_before_a_weight_is_kept(
  tmp_path, weights, arguments, monkeypatch, capsys
):
  def session(*_, **__):
    pytest.fail("The weights were read.")

  monkeypatch.setattr("emma_jax.build.session.session", session)
  broken = tmp_path / "broken.png"
  broken.write_bytes(b"no picture")
  command, *rest = [str(broken) if a == "BROKEN" else a for a in arguments]
  assert main([command, weights, *rest]) == 2
  assert "error: " in capsys.readouterr().err


def test_a_result_that_is_no_number_is_an_error_not_a_black_picture(
  tmp_path, capsys, monkeypatch
):
  """Of a file that another program wrote: ours refuses to."""
  monkeypatch.setattr("emma_jax.convert.casting.check_finite", lambda *_: None)
  flat = rules.flatten(small.random_params(small.config()["model"]))
  name = "llm/norm_gen/scale"
  flat[name][3] = np.nan
  broken = saved(tmp_path / "broken.safetensors", rules.unflatten(flat))
  out = tmp_path / "o.png"
  draw = ["draw", broken, "--prompt", "a", "--out", str(out)]
  assert main([*draw, "--steps", "1"]) == Exit.NOT_FINITE
  said = capsys.readouterr().err
  assert "NaN or infinite" in said and name in said and not out.exists()


def test_bad_flags_are_the_parsers(capsys):
  with pytest.raises(SystemExit) as stop:
    main([*DRAW, "--out", "o.png", "--size", "96"])
  assert stop.value.code == 2 and "96x96" in capsys.readouterr().err


@pytest.mark.parametrize(
  "arguments, words",
  [
    ([*DRAW, "--out", "o.png", "--shift", "-1"], "-1 is not a number from"),
    ([*DRAW, "--out", "o.png", "--guidance", "nan"], "nan is not a number"),
    (["ask", "--question", "a", "--top-p", "2"], "2 is not a number above 0"),
  ],
)
def test_numbers_have_ranges(arguments, words, capsys):
  with pytest.raises(SystemExit) as stop:
    main(arguments)
  assert stop.value.code == 2 and words in capsys.readouterr().err


@pytest.mark.parametrize("command", ["draw", "edit", "ask"])
@pytest.mark.parametrize("seed", ["-3", "2147483648", "1.5"])
def test_seeds_have_a_range(command, seed, capsys):
  with pytest.raises(SystemExit) as stop:
    main([command, "--seed", seed])
  assert stop.value.code == 2
  assert f"'{seed}' is no seed: give a whole" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["draw"], ["edit"], ["ask"]])
def test_help_has_examples(command, capsys):
  with pytest.raises(SystemExit) as stop:
    main([*command, "--help"])
  assert stop.value.code == 0
  said = capsys.readouterr().out
  assert "emma-sample " + (command or ["draw"])[0] + " --" in said


def test_only_how_it_samples_and_prepares_can_be_changed(capsys):
  """By enumeration of the config's sections: all others are the weights'."""
  sections = config_file.load("tiny").keys()
  assert {"model", "data", "train"} <= set(sections)
  for section in [*sections, "nothing"]:
    argv = ["ask", "--question", "x", f"--config.{section}.x=1"]
    assert main(argv) == 2
    refused = "the weights decide this" in capsys.readouterr().err
    assert refused == (section not in ("sample", "data", "mesh")), section


@pytest.mark.parametrize(
  "arguments, words",
  [
    (["--config.mesh.fsdp=3"], "fsdp=3, tensor=1 does not use 1 devices"),
    (["--config.mesh.fsdp=0"], "mesh.fsdp=0: give a number of devices"),
    (["--config.mesh.fsdq=2"], "Did you mean mesh.fsdp?"),
    (["--coordinator", "here"], "num_processes and process_id missing"),
  ],
)
def test_devices_that_are_not_there_end_it_before_weights_are_read(
  capsys, arguments, words
):
  nowhere = ["--checkpoint", "nowhere"]
  assert main(["ask", "--question", "x", *nowhere, *arguments]) == 2
  said = capsys.readouterr().err
  assert words in said and "Traceback" not in said and "nowhere" not in said


def test_a_mesh_of_one_device_and_another_dtype(weights, capsys):
  ask = ["ask", weights, "--question", "what?", "--max-tokens", "3"]
  assert main(ask) == 0
  one = capsys.readouterr().out
  assert main([*ask, "--config.mesh.data=-1"]) == 0
  assert capsys.readouterr().out == one
  assert main([*ask, "--dtype", "bfloat16"]) == 0
