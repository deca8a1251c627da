"""What was downloaded in a file's place is told, wherever the file stands."""

import pytest

from emma_jax.data.ingest import containers, sequences
from emma_jax.data.pictures import images
from emma_jax.data.pictures.images import BadRecord
from tests.data import made

_LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
# (bytes, what is told of a picture); the first three also of any other file.
FILES = {
  "a pointer": (_LFS, "a Git LFS pointer; `git lfs pull"),
  "a page": (b"\n<!DOCTYPE html><p>404", "a web page, .* get it anew"),
  "a refusal": (b"<?xml version='1.0'?><Error>Denied", "a text in XML"),
  "nothing": (bytes(600), "zeros, as of"),
  "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1", "HEIC; save it as JPEG or PNG"),
  "a film": (b"\0\0\0\x18ftypmp42\0\0\0\0isom", "a video"),
  "JPEG XL": (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL; save it as"),
  "JPEG XL's stream": (b"\xff\x0a\xfa", "JPEG XL; save it as"),
  "SVG": (b'<?xml version="1.0"?>\n<svg/>', "an SVG; save it as"),
  "PSD": (b"8BPS\0\1", "a Photoshop file; save it as"),
}


@pytest.mark.parametrize("name", FILES)
def test_of_a_picture(tmp_path, name):
  data, told = FILES[name]
  path = tmp_path / "a.jpg"
  path.write_bytes(data)
  for raw in (data, str(path)):
    for read in (images.load_picture, images.measure_picture):
      with pytest.raises(BadRecord, match=f"cannot read .*: it is {told}"):
        read(raw, "here")


@pytest.mark.parametrize("name", list(FILES)[:3])
@pytest.mark.parametrize(
  "end", ["jsonl", "json", "csv", "tsv", "parquet", "tar", "tar.gz", "zip"]
)
def test_of_rows(tmp_path, name, end):
  data, told = FILES[name]
  path = tmp_path / f"a.{end}"
  path.write_bytes(data)
  with pytest.raises(ValueError, match=f"a.{end} is {told}"):
    containers.split(str(path), 10, sequences.Options())


@pytest.mark.parametrize("kind", ["AVIF", "PNG", "JPEG", "WEBP", "JPEG2000"])
def test_pictures_are_no_stand_ins(kind):
  data = made.noise(kind=kind)
  assert images.load_picture(data).shape == (64, 64, 3)
