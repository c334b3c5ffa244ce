"""Every Gemma variant as data: shapes, attention windows, RoPE, and analytic parameter counts.

Sources: the model definitions of the official `gemma` package (gemma/gm/nn/_gemma.py) and the published
`config.json` files of the `google/gemma-*` checkpoints. This module imports no JAX.

Axis letters: L layers, D embed, F ffw hidden, N query heads, K kv heads, H head dim, V vocabulary.
"""

import dataclasses

from cosample_jax.errors import UserError, did_you_mean


@dataclasses.dataclass(frozen=True)
class GemmaConfig:
    """The shape of one text-only Gemma.

    Attributes:
        name: Key in `VARIANTS`.
        family: 'gemma1', 'gemma2' or 'gemma3'.
        num_layers: L.
        embed_dim: D.
        ffw_dim: F, width of each of the two halves of the gated feed-forward layer.
        num_heads: N, query heads.
        num_kv_heads: K; 1 is multi-query, N is multi-head, in between is grouped-query attention.
        head_dim: H.
        vocab_size: V, rows of the tied embedding.
        windows: Per layer, how many positions back a token sees, itself included; 0 means all of them.
        rope_base: Per layer, the RoPE base wavelength.
        rope_scale: Per layer, the factor positions are divided by before RoPE.
        query_scale: What queries are multiplied by before they meet the keys.
        attn_softcap: Attention scores become cap * tanh(scores / cap); None leaves them.
        final_softcap: The same for the output logits.
        post_norms: Whether attention and feed-forward outputs are normalised too (Gemma 2 and 3).
        qk_norm: Whether queries and keys are normalised per head (Gemma 3).
        scan_unroll: How many layers one iteration of the layer scan holds (compile time against speed).
        nominal_params: The size in the model's name, which papers put into 2P; 0 for the tiny models.
        context: Longest supported sequence, in tokens.
    """

    name: str
    family: str
    num_layers: int
    embed_dim: int
    ffw_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    windows: tuple[int, ...]
    rope_base: tuple[float, ...]
    rope_scale: tuple[float, ...]
    query_scale: float
    attn_softcap: float | None
    final_softcap: float | None
    post_norms: bool
    qk_norm: bool
    scan_unroll: int
    nominal_params: int
    context: int

    def __post_init__(self):
        for field in ('windows', 'rope_base', 'rope_scale'):
            if len(getattr(self, field)) != self.num_layers:
                raise ValueError(f'{self.name}: {field} needs one entry for each of the {self.num_layers} layers')
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f'{self.name}: {self.num_heads} heads do not split over {self.num_kv_heads} kv heads')

    @property
    def is_unrolled(self) -> bool:
        """Whether its layers run without a scan, as those of tiny models do."""
        return self.scan_unroll >= self.num_layers

    def num_params(self) -> int:
        """All parameters, the (tied, counted once) embedding included."""
        return self.vocab_size * self.embed_dim + self.num_non_embedding_params()

    def num_non_embedding_params(self) -> int:
        """All parameters but the embedding table, as the Gemma reports list them."""
        attention = 2 * self.embed_dim * self.head_dim * (self.num_heads + self.num_kv_heads)
        feed_forward = 3 * self.embed_dim * self.ffw_dim
        norms = self.embed_dim * (4 if self.post_norms else 2) + (2 * self.head_dim if self.qk_norm else 0)
        return self.num_layers * (attention + feed_forward + norms) + self.embed_dim


def gemma1(name, *, layers, embed, ffw, heads, kv_heads, head_dim, vocab=256_000, **other) -> GemmaConfig:
    """Gemma 1: global attention everywhere, no softcaps, norms before each sublayer only."""
    return _gemma(
        name, 'gemma1', layers, embed, ffw, heads, kv_heads, head_dim, vocab,
        **{'windows': (0,) * layers, 'context': 8192, **other},
    )  # fmt: skip


def gemma2(name, *, layers, embed, ffw, heads, kv_heads, head_dim, vocab=256_000, window=4096, **other) -> GemmaConfig:
    """Gemma 2: every even layer local, both softcaps, norms before and after each sublayer."""
    windows = tuple(window if layer % 2 == 0 else 0 for layer in range(layers))
    return _gemma(
        name, 'gemma2', layers, embed, ffw, heads, kv_heads, head_dim, vocab,
        **{'windows': windows, 'context': 8192, 'attn_softcap': 50.0, 'final_softcap': 30.0,
           'post_norms': True} | other,
    )  # fmt: skip


def gemma3(
    name, *, layers, embed, ffw, heads, kv_heads, head_dim, window, scale, vocab=262_144, pattern=6, **other
) -> GemmaConfig:
    """Gemma 3: qk-norm, and `pattern - 1` local layers for each global one (base 1M, positions / scale)."""
    is_global = [layer % pattern == pattern - 1 for layer in range(layers)]
    return _gemma(
        name, 'gemma3', layers, embed, ffw, heads, kv_heads, head_dim, vocab,
        **{'windows': tuple(0 if g else window for g in is_global),
           'rope_base': tuple(1_000_000.0 if g else 10_000.0 for g in is_global),
           'rope_scale': tuple(scale if g else 1.0 for g in is_global),
           'context': 131_072, 'post_norms': True, 'qk_norm': True} | other,
    )  # fmt: skip


def _gemma(name, family, layers, embed, ffw, heads, kv_heads, head_dim, vocab, **other) -> GemmaConfig:
    defaults = {
        'rope_base': (10_000.0,) * layers,
        'rope_scale': (1.0,) * layers,
        'query_scale': head_dim**-0.5,
        'attn_softcap': None,
        'final_softcap': None,
        'post_norms': False,
        'qk_norm': False,
        'scan_unroll': 1,
        'nominal_params': 0,
    }
    return GemmaConfig(
        name=name, family=family, num_layers=layers, embed_dim=embed, ffw_dim=ffw, num_heads=heads,
        num_kv_heads=kv_heads, head_dim=head_dim, vocab_size=vocab, **(defaults | other),
    )  # fmt: skip


def _tiny(make, name, **shape) -> GemmaConfig:
    """A model for a laptop CPU: small vocabulary, short context, layers fully unrolled."""
    return make(name, **{'vocab': 256, 'scan_unroll': shape['layers'], 'context': 1024} | shape)


# The official checkpoints of Gemma 1 and 2 pad the vocabulary to 256,128 rows that no token uses; like the
# Hugging Face ones, these configs leave the padding out. Gemma 3 counts the text vocabulary.
# Both 27B models scale queries by (D / N) ** -0.5, not by H ** -0.5.
VARIANTS: dict[str, GemmaConfig] = {
    config.name: config
    for config in (
        gemma1('gemma_2b', layers=18, embed=2048, ffw=16_384, heads=8, kv_heads=1, head_dim=256,
               nominal_params=2_000_000_000),
        gemma1('gemma_7b', layers=28, embed=3072, ffw=24_576, heads=16, kv_heads=16, head_dim=256,
               nominal_params=7_000_000_000),
        gemma2('gemma2_2b', layers=26, embed=2304, ffw=9216, heads=8, kv_heads=4, head_dim=256,
               nominal_params=2_000_000_000),
        gemma2('gemma2_9b', layers=42, embed=3584, ffw=14_336, heads=16, kv_heads=8, head_dim=256,
               nominal_params=9_000_000_000),
        gemma2('gemma2_27b', layers=46, embed=4608, ffw=36_864, heads=32, kv_heads=16, head_dim=128,
               query_scale=(4608 / 32) ** -0.5, nominal_params=27_000_000_000),
        gemma3('gemma3_270m', layers=18, embed=640, ffw=2048, heads=4, kv_heads=1, head_dim=256,
               window=512, scale=1.0, context=32_768, nominal_params=270_000_000),
        gemma3('gemma3_1b', layers=26, embed=1152, ffw=6912, heads=4, kv_heads=1, head_dim=256,
               window=512, scale=1.0, context=32_768, nominal_params=1_000_000_000),
        gemma3('gemma3_4b', layers=34, embed=2560, ffw=10_240, heads=8, kv_heads=4, head_dim=256,
               window=1024, scale=8.0, nominal_params=4_000_000_000),
        gemma3('gemma3_12b', layers=48, embed=3840, ffw=15_360, heads=16, kv_heads=8, head_dim=256,
               window=1024, scale=8.0, nominal_params=12_000_000_000),
        gemma3('gemma3_27b', layers=62, embed=5376, ffw=21_504, heads=32, kv_heads=16, head_dim=128,
               window=1024, scale=8.0, query_scale=(5376 / 32) ** -0.5, nominal_params=27_000_000_000),
        # The pair keeps the paper's ratio: one strong sample costs as much as three weak ones.
        _tiny(gemma2, 'tiny_weak', layers=3, embed=40, ffw=112, heads=4, kv_heads=2, head_dim=12, window=64),
        _tiny(gemma2, 'tiny_strong', layers=4, embed=64, ffw=180, heads=4, kv_heads=2, head_dim=16,
              window=64),
        _tiny(gemma1, 'tiny_student', layers=3, embed=40, ffw=88, heads=4, kv_heads=1, head_dim=12),
        # The same trio for text in people's own words, with a vocabulary of 4,096 pieces.
        _tiny(gemma2, 'mini_weak', layers=2, embed=48, ffw=192, heads=4, kv_heads=2, head_dim=16, window=128,
              vocab=4096, context=2048),
        _tiny(gemma2, 'mini_strong', layers=3, embed=104, ffw=315, heads=4, kv_heads=2, head_dim=24,
              window=128, vocab=4096, context=2048),
        _tiny(gemma1, 'mini_student', layers=2, embed=40, ffw=160, heads=4, kv_heads=1, head_dim=16,
              vocab=4096, context=2048),
        _tiny(gemma3, 'tiny_gemma3', layers=3, embed=32, ffw=64, heads=2, kv_heads=1, head_dim=16, window=16,
              scale=8.0, pattern=3),
    )
}  # fmt: skip


def variant(name: str) -> GemmaConfig:
    """The config called `name`; UserError naming the nearest variant when there is none."""
    if name not in VARIANTS:
        raise UserError(f'unknown model variant {name!r}{did_you_mean(name, VARIANTS)}')
    return VARIANTS[name]
