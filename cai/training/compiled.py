"""A packed batch's plan as compiled layers take it: they call it, and do not look into it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cai.training.attention import Segments


@dataclass(frozen=True, kw_only=True)
class Apart(Segments):
    """Segments whose attention is not compiled with the layer around it: each batch has other lengths."""

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int
    ) -> Tensor:
        return Segments.attend(self, layer, query, key, value, scaling, window)
