"""A filter of system calls for a process that computes, reads files and has threads: a short list, all else is refused.

It starts no process, connects to nothing, and touches no other process. A Unix socket it may listen on, since
llama-server does before it loads. (man 2 seccomp; the numbers are those of the kernel's asm/unistd.h.)
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterator
from typing import Final

_SET_SECCOMP, _GET_SECCOMP, _MODE_FILTER, _NO_NEW_PRIVS = 22, 21, 2, 38
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
"""SECCOMP_RET_ALLOW, _KILL_PROCESS and _ERRNO."""
_ENOSYS, _EPERM = 38, 1
_LOAD, _EQUAL, _SET, _RETURN = 0x20, 0x15, 0x45, 0x06
"""BPF: load a word, jump if equal, jump if any bit is set, return."""
_NR_AT, _ARCH_AT, _ARGS_AT = 0, 4, 16
"""Places in struct seccomp_data; of an argument the lower half is looked at, which is all that the kernel takes."""
_CLONE_THREAD: Final = 0x10000
_CLONE_NEW: Final = 0x7E020000
"""All CLONE_NEW* of clone(2): a thread in a namespace of its own may have privileges there."""
_ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_PLAIN: Final = """
read 0 63,write 1 64,open 2 -,close 3 57,stat 4 -,fstat 5 80,lstat 6 -,poll 7 -,lseek 8 62,mmap 9 222,mprotect 10 226,
munmap 11 215,brk 12 214,rt_sigaction 13 134,rt_sigprocmask 14 135,rt_sigreturn 15 139,pread64 17 67,pwrite64 18 68,
readv 19 65,writev 20 66,access 21 -,pipe 22 -,select 23 -,sched_yield 24 124,mremap 25 216,msync 26 227,
mincore 27 232,
madvise 28 233,dup 32 23,dup2 33 -,nanosleep 35 101,getpid 39 172,accept 43 202,shutdown 48 210,bind 49 200,
listen 50 201,
getsockname 51 204,getpeername 52 205,setsockopt 54 208,getsockopt 55 209,exit 60 93,uname 63 160,getdents 78 -,
getcwd 79 17,readlink 89 -,umask 95 166,gettimeofday 96 169,getrlimit 97 163,getrusage 98 165,sysinfo 99 179,
times 100 153,getuid 102 174,getgid 104 176,geteuid 107 175,getegid 108 177,getppid 110 173,getpgrp 111 -,
sigaltstack 131 132,statfs 137 43,fstatfs 138 44,getpriority 140 141,sched_getparam 143 121,sched_getscheduler 145 120,
arch_prctl 158 -,gettid 186 178,futex 202 98,sched_getaffinity 204 123,getdents64 217 61,set_tid_address 218 96,
restart_syscall 219 128,fadvise64 221 223,clock_gettime 228 113,clock_getres 229 114,clock_nanosleep 230 115,
exit_group 231 94,epoll_wait 232 -,epoll_ctl 233 21,openat 257 56,newfstatat 262 79,readlinkat 267 78,faccessat 269 48,
pselect6 270 72,ppoll 271 73,set_robust_list 273 99,get_robust_list 274 100,epoll_pwait 281 22,accept4 288 242,
eventfd2 290 19,epoll_create1 291 20,dup3 292 24,pipe2 293 59,getcpu 309 168,getrandom 318 278,membarrier 324 283,
statx 332 291,rseq 334 293,faccessat2 439 439
"""
"""Name, number on x86_64, number on aarch64 (- where there is none)."""
_IF_ARGUMENT: Final = """
ioctl 16 29 1 0x5401 0x541b 0x5421 0x5451,fcntl 72 25 1 0 1 2 3 4 1030,socket 41 198 0 1,
prctl 157 167 0 15 16 0x53564d41,
prlimit64 302 261 0 0
"""
"""Name, two numbers, which argument, and what it may be: TCGETS, FIONREAD, FIONBIO and FIOCLEX; F_DUPFD to F_SETFL and
F_DUPFD_CLOEXEC; AF_UNIX; PR_SET_NAME, PR_GET_NAME and PR_SET_VMA; the process itself."""
_SOCKET, _CLONE, _TGKILL = (41, 198), (56, 220), (234, 131)
_STREAM: Final = 1
"""SOCK_STREAM: a datagram can be sent to any socket without connecting to it."""
_TYPE_MASK: Final = 0xF

_libc = ctypes.CDLL(None, use_errno=True)


def available() -> bool:
    """Returns whether this kernel has filters, and this machine's system calls are known here."""
    return platform.machine() in _ARCHITECTURES and _libc.prctl(_GET_SECCOMP, 0, 0, 0, 0) >= 0


def restrict() -> bool:
    """Refuse this process all calls that are not on the list. False if the kernel cannot. Raises OSError if it fails.

    Call it before any thread is started.
    """
    if not available():
        return False
    code = b"".join(_program(platform.machine(), os.getpid()))
    program = ctypes.create_string_buffer(code, len(code))
    described = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(program))
    _libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    if _libc.prctl(_SET_SECCOMP, _MODE_FILTER, described, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return True


def _program(machine: str, pid: int) -> Iterator[bytes]:
    """BPF instructions. ``pid``: the one process that may be signalled."""
    column = list(_ARCHITECTURES).index(machine)
    yield from (_step(_LOAD, _ARCH_AT), _step(_EQUAL, _ARCHITECTURES[machine], 1, 0), _step(_RETURN, _KILL))
    yield _step(_LOAD, _NR_AT)
    for entry in _PLAIN.split(","):
        if (plain := entry.split()[1 + column]) != "-":
            yield from (_step(_EQUAL, int(plain), 0, 1), _step(_RETURN, _ALLOW))
    for entry in _IF_ARGUMENT.split(","):
        words = entry.split()
        number, argument, values = int(words[1 + column]), int(words[3]), [int(word, 0) for word in words[4:]]
        if number == _SOCKET[column]:
            yield from _if(number, _stream_socket(values[0]))
        else:
            yield from _if(number, _one_of(argument, values))
    yield from _if(_TGKILL[column], _one_of(0, [pid]))
    yield from _if(_CLONE[column], _thread())
    yield _step(_RETURN, _REFUSE | _ENOSYS)  # the answer on which the C library does without


def _if(number: int, body: list[bytes]) -> Iterator[bytes]:
    """The answer to one call: the body, which may allow it, and else a refusal."""
    yield _step(_EQUAL, number, 0, len(body) + 1)
    yield from body
    yield _step(_RETURN, _REFUSE | _EPERM)


def _one_of(argument: int, values: list[int]) -> list[bytes]:
    tests = [
        _step(_EQUAL, value, len(values) - n - 1, 0 if n < len(values) - 1 else 1) for n, value in enumerate(values)
    ]
    return [_argument(argument), *tests, _step(_RETURN, _ALLOW)]


def _stream_socket(family: int) -> list[bytes]:
    return [
        _argument(0),
        _step(_EQUAL, family, 0, 4),
        _argument(1),
        _step(0x54, _TYPE_MASK),
        _step(_EQUAL, _STREAM, 0, 1),
        _step(_RETURN, _ALLOW),
    ]


def _thread() -> list[bytes]:
    steps = [_step(_SET, _CLONE_THREAD, 0, 2), _step(_SET, _CLONE_NEW, 1, 0)]
    return [_argument(0), *steps, _step(_RETURN, _ALLOW)]


def _argument(number: int) -> bytes:
    return _step(_LOAD, _ARGS_AT + 8 * number)


def _step(code: int, k: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """One instruction; the jumps count the instructions that are passed over."""
    return struct.pack("=HBBI", code, if_true, if_false, k)
