"""The answers of CUDA's backend about an operation, where they decide about memory.

Source, llama.cpp build 11434: ggml-cuda.cu and fattn.cu (alignment, row padding, f16 copies of flash attention,
what is supported and what is offloaded).
"""

from __future__ import annotations

import ctypes
from typing import Final

ALIGN: Final = 128
ROW: Final = 512
_OFFLOAD_BATCH: Final = 32
"""Bytes that a buffer is aligned to; elements that a quantized row is padded to; the least batch that is offloaded."""
_F16: Final = 1
"""GGML_TYPE_F16."""
_FLASH_CACHES: Final = frozenset({0, 1, 2, 3, 6, 7, 8, 30})
"""Numbers of enum ggml_type that flash attention takes K and V in."""

_SOURCES, _PARAMS, _VIEW = 152, 84, 232
"""Offsets in struct ggml_tensor."""

OPS: dict[int, str] = {}
"""enum ggml_op by number, as the library at hand has it."""


def i32(address: int) -> int:
    return ctypes.c_int32.from_address(address).value


def _i64(address: int) -> int:
    return ctypes.c_int64.from_address(address).value


class TensorPlace:
    """A view of a struct ggml_tensor."""

    __slots__ = ("at",)

    def __init__(self, at: int) -> None:
        self.at = at

    @property
    def type(self) -> int:
        return i32(self.at)

    @property
    def op(self) -> str:
        return OPS.get(i32(self.at + 80), "")

    def ne(self, n: int) -> int:
        return _i64(self.at + 16 + 8 * n)

    def source(self, n: int) -> TensorPlace | None:
        found = _i64(self.at + _SOURCES + 8 * n)
        return TensorPlace(found) if found else None

    def elements(self) -> int:
        return self.ne(0) * self.ne(1) * self.ne(2) * self.ne(3)

    @property
    def view(self) -> tuple[int, int]:
        return _i64(self.at + _VIEW), _i64(self.at + _VIEW + 8)


def _has_flash_kernel(op: TensorPlace) -> bool:
    """fattn.cu:ggml_cuda_get_best_fattn_kernel."""
    q, k, v, mask = (op.source(n) for n in range(4))
    assert q is not None
    assert k is not None
    assert v is not None
    ratio = q.ne(2) // k.ne(2)
    bias = ctypes.c_float.from_address(op.at + _PARAMS + 4).value
    grouped = ratio >= 2 and mask is not None and bias == 0 and k.ne(1) % 256 == 0
    key, value = k.ne(0), v.ne(0)
    if key in (40, 64, 72, 80, 96, 112, 128, 256):
        known = key == value
    else:
        known = grouped and {
            192: value == 128 and ratio % 8 == 0,
            320: value == 256 and ratio % 32 == 0,
            512: value == 512,
            576: value == 512,
        }.get(key, False)
    return known and k.type in _FLASH_CACHES and v.type in _FLASH_CACHES and (mask is None or mask.ne(2) == 1)


def flash_extra(op: TensorPlace) -> int:
    """fattn.cu:ggml_cuda_flash_attn_ext_get_alloc_size for batches: K and V as f16, if they are not."""
    k, v = op.source(1), op.source(2)
    assert k is not None
    assert v is not None
    extra = 0
    if k.type != _F16:
        extra += -(-2 * k.elements() // ALIGN) * ALIGN
    same = v.view[0] and (v.view[0] == k.at or v.view == k.view)
    if v.type != _F16 and not same:
        extra += -(-2 * v.elements() // ALIGN) * ALIGN
    return extra


def supports(op: TensorPlace) -> bool:
    kind = op.op
    if kind == "FLASH_ATTN_EXT":
        return _has_flash_kernel(op)
    if kind == "SSM_CONV":
        source = op.source(0)
        return source is not None and source.ne(1) % 128 == 0
    if kind == "SSM_SCAN":
        s, a = op.source(0), op.source(3)
        assert s is not None
        assert a is not None
        if a.ne(0) == 1:
            return s.ne(0) in (96, 128, 256) and s.ne(1) % 16 == 0
        return s.ne(0) == 16 and s.ne(1) == 1 and s.ne(2) % 128 == 0
    return True


def offloads(op: TensorPlace) -> bool:
    kind = op.op
    if kind == "GET_ROWS":
        return False
    if kind == "MUL_MAT":
        batch = op.ne(1)
    elif kind in ("MUL_MAT_ID", "ROPE", "ROPE_BACK"):
        batch = op.ne(2)
    else:
        batch = op.ne(1) * op.ne(2) * op.ne(3)
    return batch >= _OFFLOAD_BATCH
