"""Qwen3's decoder in parts, so that two branches can share some of them.

Source: `transformers` Qwen3ForCausalLM. Grouped queries, RMSNorm per head on
queries and keys before RoPE, half-rotation RoPE, SwiGLU, no biases.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from emma_jax.models import masks, partition
from emma_jax.models.attention import attend, check_path
from emma_jax.models.layers import RmsNorm, fan_in, linear, normal, ones, weight
from emma_jax.models.norm_rope import norm_rope
from emma_jax.structs import TokenIds

# What a block is made of; `llm.Block` says which of it two branches share.
PARTS = ("attn_norm", "qk", "v", "o", "mlp_norm", "mlp")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Qwen3Config:
  """Sizes of a Qwen3 decoder, named as in the field.

  `embed_std`, `residual_gain` matter to training from scratch only: the first
  deviation of the embeddings, and a factor on the first weights of what is
  added to the residual stream. The stream of a text token starts as its
  embedding; where the first layers add far more than that, a small model takes
  thousands of steps to find the words again.
  """

  vocab_size: int
  width: int
  mlp_width: int
  num_layers: int
  num_heads: int
  num_kv_heads: int
  head_dim: int
  rope_theta: float
  norm_eps: float
  tie_embeddings: bool
  embed_std: float
  residual_gain: float
  scan_unroll: int
  remat: str  # see `partition.remat`
  attention: str

  def __post_init__(self):
    check_path(self.attention)
    if self.num_heads % self.num_kv_heads:
      raise ValueError(
        f"{self.num_heads=} is not a multiple of {self.num_kv_heads=}."
      )
    if self.head_dim % 2:
      raise ValueError(f"{self.head_dim=} must be even: RoPE rotates halves.")
    partition.check_remat(self.remat)


class QueryKey(nn.Module):
  """Queries (B, L, H, E) and keys (B, L, K, E): projection, RMSNorm per head,
  RoPE."""

  config: Qwen3Config

  @nn.compact
  def __call__(self, x_BLD: jax.Array, position_BL: jax.Array):
    """(B, L, D), positions (B, L) -> ((B, L, H, E), (B, L, K, E))."""
    c = self.config
    D, H, K, E = x_BLD.shape[-1], c.num_heads, c.num_kv_heads, c.head_dim
    dtype = x_BLD.dtype
    q_DHE = weight(
      self, "q", (D, H, E), ("embed", "heads", "head_dim"), rounded_to=dtype
    )
    k_DKE = weight(
      self, "k", (D, K, E), ("embed", "kv_heads", "head_dim"), rounded_to=dtype
    )
    q_norm_E = weight(self, "q_norm", (E,), (None,), ones)
    k_norm_E = weight(self, "k_norm", (E,), (None,), ones)

    def made(w_DHE: jax.Array, scale_E: jax.Array, name: str) -> jax.Array:
      # Kept before the norm: its gradient needs what came in.
      y_BLHE = partition.save_residual_flat(split_linear(x_BLD, w_DHE), name)
      return norm_rope(y_BLHE, scale_E, position_BL, c.norm_eps, c.rope_theta)

    return made(q_DHE, q_norm_E, "query"), made(k_DKE, k_norm_E, "key")


class Value(nn.Module):
  """Value projection: (B, L, K, E)."""

  config: Qwen3Config

  @nn.compact
  def __call__(self, x_BLD: jax.Array) -> jax.Array:
    """(B, L, D) -> (B, L, K, E)."""
    c = self.config
    shape = (x_BLD.shape[-1], c.num_kv_heads, c.head_dim)
    v_DKE = weight(
      self,
      "kernel",
      shape,
      ("embed", "kv_heads", "head_dim"),
      rounded_to=x_BLD.dtype,
    )
    return partition.save_residual_flat(split_linear(x_BLD, v_DKE), "value")


class Output(nn.Module):
  """Output projection of the attention."""

  config: Qwen3Config

  @nn.compact
  def __call__(self, x_BLHE: jax.Array) -> jax.Array:
    """(B, L, H, E) -> (B, L, D)."""
    B, L, H, E = x_BLHE.shape
    shape = (H, E, self.config.width)
    o_HED = weight(
      self,
      "kernel",
      shape,
      ("heads", "head_dim", "embed"),
      fan_in((0, 1), self.config.residual_gain),
      x_BLHE.dtype,
    )
    # The kernels of attention want rows of it, not heads.
    x_BLF = partition.materialize_gradient(x_BLHE.reshape(B, L, H * E))
    y_BLD = partition.row_major(linear(x_BLF, _matrix(o_HED, H * E)))
    return partition.save_residual(y_BLD, "attn_proj")


def split_linear(x_BLD: jax.Array, w_DHE: jax.Array) -> jax.Array:
  """(B, L, H, E), by a product of matrices, see `_matrix`."""
  y_BLF = linear(x_BLD, _matrix(w_DHE, w_DHE.shape[0]))
  return y_BLF.reshape(*y_BLF.shape[:2], *w_DHE.shape[1:])


def _matrix(w: jax.Array, rows: int) -> jax.Array:
  """A weight by heads as a matrix of that many rows, for a TPU's compiler too.

  Left to itself it moves the reshaping behind the product, makes an array of
  four axes with the tokens last, and copies to undo that.
  """
  return partition.materialize(w.reshape(rows, -1))


class Mlp(nn.Module):
  """SwiGLU: down(silu(gate) * up)."""

  config: Qwen3Config

  @nn.compact
  def __call__(self, x_BLD: jax.Array) -> jax.Array:
    """(B, L, D) -> (B, L, D)."""
    D, F = x_BLD.shape[-1], self.config.mlp_width
    of_input = lambda name: weight(
      self, name, (D, F), ("embed", "mlp"), rounded_to=x_BLD.dtype
    )
    gate_DF, up_DF = of_input("gate"), of_input("up")
    down_FD = weight(
      self,
      "down",
      (F, D),
      ("mlp_rows", "embed"),
      fan_in(0, self.config.residual_gain),
      x_BLD.dtype,
    )

    def hidden(w_DF: jax.Array, name: str) -> jax.Array:
      y_BLF = partition.constrain(linear(x_BLD, w_DF), "rows", None, "mlp")
      return partition.save_residual(y_BLF, name)

    gate_BLF, up_BLF = hidden(gate_DF, "mlp_gate"), hidden(up_DF, "mlp_up")
    y_BLD = linear(jax.nn.silu(gate_BLF) * up_BLF, down_FD)
    return partition.row_major(y_BLD)


class Parts(nn.Module):
  """The named parts of one block, as one subtree of the parameters."""

  config: Qwen3Config
  names: tuple[str, ...]

  def setup(self):
    """Declares a submodule per name."""
    c = self.config
    make = {
      "attn_norm": lambda: RmsNorm(c.norm_eps),
      "qk": lambda: QueryKey(c),
      "v": lambda: Value(c),
      "o": lambda: Output(c),
      "mlp_norm": lambda: RmsNorm(c.norm_eps),
      "mlp": lambda: Mlp(c),
    }
    for name in self.names:
      setattr(self, name, make[name]())


class Qwen3Block(nn.Module):
  """One plain decoder block."""

  config: Qwen3Config

  @nn.compact
  def __call__(self, x_BLD, ids):
    """(B, L, D) and its `TokenIds` -> the output, twice: a scan's body."""
    p = Parts(self.config, PARTS, name="block")
    h_BLD = p.attn_norm(x_BLD)
    q_BLHE, k_BLKE = p.qk(h_BLD, ids.position)
    out_BLHE = attend(
      q_BLHE, k_BLKE, p.v(h_BLD), ids, ids, self.config.attention
    )
    x_BLD += p.o(out_BLHE)
    x_BLD += p.mlp(p.mlp_norm(x_BLD))
    return x_BLD, x_BLD


class Qwen3(nn.Module):
  """The plain decoder: what EMMA's Und branch is when nothing is drawn.

  Causal within each segment (0 is padding, which sees nothing), at position
  0, 1, ... of the row unless `position_BL` says otherwise. `ids` say any mask
  that `masks.allow` knows, in place of both.

  Returns (logits (B, L, V) float32, hidden states: embeddings, then each
  layer's output, the last one after the final norm, as `transformers` does).
  """

  config: Qwen3Config

  @nn.compact
  def __call__(
    self,
    tokens_BL: jax.Array,
    position_BL: jax.Array | None = None,
    segment_BL: jax.Array | None = None,
    ids: TokenIds | None = None,
  ) -> tuple[jax.Array, list[jax.Array]]:
    """The logits and the hidden states; see the class."""
    c = self.config
    if segment_BL is None:
      segment_BL = jnp.ones_like(tokens_BL)
    if position_BL is None:
      position_BL = jnp.broadcast_to(
        jnp.arange(tokens_BL.shape[1]), tokens_BL.shape
      )
    if ids is None:
      ids = masks.causal(segment_BL, position_BL)
    embed_VD = weight(
      self,
      "embed",
      (c.vocab_size, c.width),
      ("vocab", "embed"),
      normal(c.embed_std),
    )
    x_BLD = embed_VD[tokens_BL]
    blocks = nn.scan(
      Qwen3Block,
      variable_axes={"params": 0},
      split_rngs={"params": True},
      in_axes=nn.broadcast,
      length=c.num_layers,
      metadata_params={nn.PARTITION_NAME: "layers"},
    )(c, name="layers")
    first_BLD = x_BLD
    x_BLD, hidden_ZBLD = blocks(x_BLD, ids)
    x_BLD = RmsNorm(c.norm_eps, name="norm")(x_BLD)
    head_VD = embed_VD
    if not c.tie_embeddings:
      head_VD = weight(
        self,
        "lm_head",
        (c.vocab_size, c.width),
        ("vocab", "embed"),
        normal(0.02),
      )
    logits_BLV = jnp.einsum(
      "BLD,VD->BLV", x_BLD, head_VD, preferred_element_type=jnp.float32
    )
    return logits_BLV, [first_BLD, *hidden_ZBLD[:-1], x_BLD]
