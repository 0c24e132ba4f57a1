"""Operations on ragged rows as dense ones, so that a network can be traced as it is written for training.

PyTorch's exporter has no ONNX operator for sums over segments, and takes the numbers of repeated rows for constants.
Inside of `DenseOperations`, calls of such functions are answered by products and comparisons of rows with jets, which
give the same numbers. There are a few jets at a time, see `assembly`, so that these tables stay small.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["DenseOperations"]


def repeat_interleave(x: Tensor, repeats: Tensor | int, dim: int | None = None, *, output_size: int | None = None):
    """Rows of `x` repeated as often as `repeats` says; in a network this gives a row for each particle or edge."""
    if not isinstance(repeats, Tensor):
        return torch.ops.aten.repeat_interleave.self_int(x, repeats, dim, output_size=output_size)
    if output_size is None:
        output_size = repeats.sum().item()
        torch._check(output_size >= 1)
    ends = repeats.cumsum(0)
    row = (torch.arange(output_size, device=x.device).unsqueeze(1) >= ends).sum(dim=1)
    return x.index_select(dim or 0, row)


def segment_reduce(
    x: Tensor, reduce: str, *, offsets: Tensor, initial: float | None = None, axis: int = 0, unsafe: bool = False
) -> Tensor:
    """Sum, mean, largest or smallest over the rows `(N, …)` of each segment, `(B, …)`; of none: 0, or `initial`."""
    offsets = offsets.flatten()
    row = torch.arange(x.shape[0], device=x.device)
    inside = (row >= offsets[:-1].unsqueeze(1)) & (row < offsets[1:].unsqueeze(1))
    rows = x.flatten(1)
    if reduce in ("sum", "mean"):
        result = inside.to(x.dtype) @ rows
        if reduce == "mean":
            result = result / offsets.diff().clamp(min=1).unsqueeze(1)
    else:
        fill, function = (-torch.inf, torch.amax) if reduce in ("max", "amax") else (torch.inf, torch.amin)
        result = function(torch.where(inside.unsqueeze(2), rows.unsqueeze(0), fill), dim=1)
    return result.unflatten(1, x.shape[1:]) if x.dim() > 2 else result


_DENSE: dict[Any, Callable[..., Tensor]] = {
    torch.repeat_interleave: repeat_interleave, torch.Tensor.repeat_interleave: repeat_interleave,
    torch._segment_reduce: segment_reduce, torch.segment_reduce: segment_reduce,
}  # fmt: skip


def _length(x: Any) -> Any:
    """As `len`, which is a number: in a graph it would be a constant."""
    return x.shape[0] if isinstance(x, Tensor) else _len(x)


_len = len


class DenseOperations(TorchFunctionMode):
    """Within this context, ragged operations are replaced by dense ones, and a tensor's length may be unknown."""

    def __enter__(self) -> Self:
        builtins.len = _length
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        builtins.len = _len
        super().__exit__(*error)

    def __torch_function__(
        self, func: Callable, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The dense function if there is one, else the function itself."""
        return _DENSE.get(func, func)(*args, **(kwargs or {}))
