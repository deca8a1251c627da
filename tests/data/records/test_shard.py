"""What a shard's file says of the disk it is on."""

import errno
import os

import pytest

from emma_jax.data.records import shard
from emma_jax.data.records.lengths import Measure
from tests.data import made


@pytest.mark.smoke
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_an_error_of_the_system(tmp_path):
  """So commands end with a line and the code for storage, and no trace."""
  temporary = tmp_path / "part.array_record.tmp"
  temporary.symlink_to("/dev/full")
  writer = shard.ShardWriter(tmp_path, "part", Measure.of(made.TOKENIZER))
  with pytest.raises(OSError, match="part.array_record'") as caught:
    for stored in made.samples():
      writer.add(stored, [(20, 30)] * len(stored.pictures))
    writer.finish()
  assert caught.value.errno == errno.ENOSPC
  with pytest.raises(OSError, match="No space left"):
    writer.abandon()
  assert not os.listdir(tmp_path)
