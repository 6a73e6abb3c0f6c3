"""Pretended cards, made with ctypes: neither a compiler nor a GPU is needed. They compute nothing."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, Final

from lmxd.engines.llama_cpp.pretend.rules import ALIGN, OPS, ROW, TensorPlace, flash_extra, offloads, supports

_ADDRESS: Final = 0x1000
"""The address of every buffer. It is aligned and not null; nobody reads it."""
_PRETENDED_BYTES: Final = 2**46
"""Of memory on each card: so much that nothing is ever made smaller to fit."""

BUFFER_TYPE: Final = {2: 6, 3: 8}
"""GGML_BACKEND_API_VERSION -> functions of a buffer type; all else is the same in both."""

_NAMED_OPS: Final = 90
"""Of enum ggml_op, so many are asked for by name: their numbers differ between builds."""

_kept: list[Any] = []
"""Everything that C holds a pointer to."""


class _Interface(ctypes.Structure):
    _fields_ = [("functions", ctypes.c_void_p * 11)]


class _Props(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("description", ctypes.c_void_p),
        ("free", ctypes.c_size_t),
        ("total", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("device_id", ctypes.c_void_p),
        ("caps", ctypes.c_bool * 5),
    ]


def _keep(thing: Any) -> Any:
    _kept.append(thing)
    return thing


def _function(result: Any, *arguments: Any) -> Callable[[Callable[..., Any]], int]:
    """Make a Python function callable from C; its address."""

    def made(function: Callable[..., Any]) -> int:
        return ctypes.cast(_keep(ctypes.CFUNCTYPE(result, *arguments)(function)), ctypes.c_void_p).value or 0

    return made


def _struct(*words: int | None) -> int:
    """A struct of pointers; its address."""
    return ctypes.addressof(_keep((ctypes.c_void_p * len(words))(*words)))


_P = ctypes.c_void_p
_nothing = _function(None, _P)(lambda _: None)


class Cards:
    """Pretended GPUs: a ggml backend that answers as CUDA's does, and allocates nothing."""

    def __init__(self, base: Any, api: int, count: int) -> None:
        self.base = base
        base.ggml_op_name.restype = ctypes.c_char_p
        OPS.update({n: base.ggml_op_name(n).decode() for n in range(_NAMED_OPS)})
        base.ggml_nbytes.restype = ctypes.c_size_t
        base.ggml_row_size.restype = ctypes.c_size_t
        base.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]
        base.ggml_is_quantized.restype = ctypes.c_bool
        base.ggml_backend_buffer_init.restype = _P
        base.ggml_backend_buffer_init.argtypes = [_P, _Interface, _P, ctypes.c_size_t]
        self.api = api
        self.reg = self._words(6)
        self.devices = [self._device(n) for n in range(count)]
        by_index = _function(_P, _P, ctypes.c_size_t)(lambda _, n: self.devices[n])
        name = _keep(ctypes.c_char_p(b"CUDA"))
        fill = (
            api,
            _function(_P, _P)(lambda _: ctypes.cast(name, _P).value),
            _function(ctypes.c_size_t, _P)(lambda _: count),
            by_index,
            _function(_P, _P, ctypes.c_char_p)(lambda _, __: None),
            None,
        )
        for n, word in enumerate(fill):
            self.reg[n] = word

    @staticmethod
    def _words(count: int) -> Any:
        return _keep((ctypes.c_void_p * count)())

    def _buffer(self, buffer_type: int, size: int) -> int | None:
        null = _function(ctypes.c_bool, _P, _P, _P)(lambda *_: False)
        functions = [
            _nothing,
            _function(_P, _P)(lambda _: _ADDRESS),
            None,
            _function(None, _P, _P, ctypes.c_uint8, ctypes.c_size_t, ctypes.c_size_t)(lambda *_: None),
            _function(None, _P, _P, _P, ctypes.c_size_t, ctypes.c_size_t)(lambda *_: None),
            _function(None, _P, _P, _P, ctypes.c_size_t, ctypes.c_size_t)(lambda *_: None),
            None,
            None,
            null,
            _function(None, _P, ctypes.c_uint8)(lambda *_: None),
            None,
        ]
        interface = _Interface((ctypes.c_void_p * 11)(*functions))
        found: int | None = self.base.ggml_backend_buffer_init(buffer_type, interface, None, size)
        return found

    def _buffer_type(self, device: int, name: Any) -> int:
        words = self._words(BUFFER_TYPE[self.api] + 2)
        at = ctypes.addressof(words)

        def alloc_size(_: int, tensor: int) -> int:
            t = TensorPlace(tensor)
            size: int = self.base.ggml_nbytes(_P(tensor))
            if t.op == "FLASH_ATTN_EXT":
                size += flash_extra(t)
            if self.base.ggml_is_quantized(t.type) and t.ne(0) % ROW:
                size += self.base.ggml_row_size(t.type, ROW - t.ne(0) % ROW)
            return size

        named = _function(_P, _P)(lambda _: ctypes.cast(name, _P).value)
        alloc = _function(_P, _P, ctypes.c_size_t)(lambda _, size: self._buffer(at, size))
        alignment = _function(ctypes.c_size_t, _P)(lambda _: ALIGN)
        sized = _function(ctypes.c_size_t, _P, _P)(alloc_size)
        if self.api == 2:
            functions = [named, alloc, alignment, None, sized, None]
        else:
            functions = [named, alloc, None, alignment, None, sized, None, None]
        for n, word in enumerate([*functions, device, None]):
            words[n] = word
        return at

    def _backend(self, device: int, name: Any) -> int:
        guid = ctypes.addressof(_keep((ctypes.c_uint8 * 16)(*b"lmxd pretends it")))
        none = _function(None, _P, _P)(lambda *_: None)
        functions = [_function(_P, _P)(lambda _: ctypes.cast(name, _P).value), _nothing, *[None] * 14]
        transfer = _function(None, _P, _P, _P, ctypes.c_size_t, ctypes.c_size_t)(lambda *_: None)
        functions[2] = functions[3] = transfer
        functions[7] = _nothing
        functions[12] = _function(ctypes.c_int, _P, _P)(lambda *_: 0)
        functions[13] = functions[14] = none
        return _struct(guid, *functions, device, None)

    def _device(self, n: int) -> int:
        words = self._words(17)
        at = ctypes.addressof(words)
        name = _keep(ctypes.c_char_p(f"CUDA{n}".encode()))
        identity = _keep(ctypes.c_char_p(f"0000:{n:02x}:00.0".encode()))
        buffer_type = self._buffer_type(at, name)
        host_type = self._host_type(at)

        def props(_: int, out: int) -> None:
            found = _Props.from_address(out)
            found.name = found.description = ctypes.cast(name, _P)
            found.device_id = ctypes.cast(identity, _P)
            found.free = found.total = _PRETENDED_BYTES
            found.type = 1
            found.caps = (ctypes.c_bool * 5)(True, True, False, True, True)

        def memory(_: int, free: int, total: int) -> None:
            ctypes.c_size_t.from_address(free).value = ctypes.c_size_t.from_address(total).value = _PRETENDED_BYTES

        event = _struct(at, None)
        functions = [
            _function(_P, _P)(lambda _: ctypes.cast(name, _P).value),
            _function(_P, _P)(lambda _: ctypes.cast(name, _P).value),
            _function(None, _P, _P, _P)(memory),
            _function(ctypes.c_int, _P)(lambda _: 1),
            _function(None, _P, _P)(props),
            _function(_P, _P, ctypes.c_char_p)(lambda *_: self._backend(at, name)),
            _function(_P, _P)(lambda _: buffer_type),
            _function(_P, _P)(lambda _: host_type),
            None,
            _function(ctypes.c_bool, _P, _P)(lambda _, op: supports(TensorPlace(op))),
            _function(ctypes.c_bool, _P, _P)(lambda _, kind: kind == buffer_type),
            _function(ctypes.c_bool, _P, _P)(lambda _, op: offloads(TensorPlace(op))),
            _function(_P, _P)(lambda _: event),
            _function(None, _P, _P)(lambda *_: None),
            _function(None, _P, _P)(lambda *_: None),
        ]
        for index, word in enumerate([*functions, ctypes.addressof(self.reg), None]):
            words[index] = word
        return at

    def _host_type(self, device: int) -> int:
        """Pinned memory: the CPU's own buffer type under another name."""
        self.base.ggml_backend_cpu_buffer_type.restype = _P
        count = BUFFER_TYPE[self.api]
        cpu = (ctypes.c_void_p * (count + 2)).from_address(self.base.ggml_backend_cpu_buffer_type())
        words = self._words(count + 2)
        name = _keep(ctypes.c_char_p(b"CUDA_Host"))
        for n in range(count):
            words[n] = cpu[n]
        words[0] = _function(_P, _P)(lambda _: ctypes.cast(name, _P).value)
        words[count] = device
        return ctypes.addressof(words)
