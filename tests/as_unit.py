"""A command under the restrictions of lmxd.service, by hand, where systemd is not pid 1: tests/as_unit.py --help

As root. The calls, address families, devices and writable places are read from the unit. libseccomp makes the filters,
Landlock stands for the mounts and for the control group of devices. ``systemd-analyze``, if need be of another machine,
says which calls a group has (--resolve).
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import grp
import json
import os
import re
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

UNIT: Final = Path(__file__).parents[1] / "contrib/systemd/lmxd.service"
NAMESPACES: Final = (0x00000080, 0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
"""CLONE_NEWTIME and so on: namespaces(7)."""
FAMILIES: Final = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_EQUAL, _MASKED = 4, 7
_NO_NEW_PRIVS, _CAPBSET_DROP, _KEEP_CAPABILITIES = 38, 24, 8
_AMBIENT, _RAISE = 47, 2
_SETS: Final = ("AmbientCapabilities", "CapabilityBoundingSet")
_CAPABILITIES: Final = {"CAP_PERFMON": 38}
_CAPABILITY_VERSION: Final = 0x20080522
_PSEUDO_DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts")
"""Those of DevicePolicy=closed."""
_READ = 1 << 2 | 1 << 3 | 1 << 0  # files, directories, execution
_WRITE = 1 << 1 | 1 << 15 | sum(1 << bit for bit in range(4, 15))  # files, ioctl, and all that makes or removes any


class Comparison(ctypes.Structure):
    """libseccomp's scmp_arg_cmp."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


def settings(unit: Path) -> dict[str, list[str]]:
    """The keys of a unit, each with all of its values in order."""
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


def calls(filters: Iterable[str]) -> list[str]:
    """The system calls that the lines of SystemCallFilter leave, groups resolved by systemd-analyze."""
    left: set[str] = set()
    for line in filters:
        named = {call for word in line.removeprefix("~").split() for call in _members(word)}
        left = left - named if line.startswith("~") else left | named
    return sorted(left)


def _members(word: str) -> set[str]:
    if not word.startswith("@"):
        return {word}
    said = subprocess.run(["systemd-analyze", "syscall-filter", word], capture_output=True, text=True, check=True)
    words = [line.strip() for line in said.stdout.splitlines()[1:]]
    return {call for word in words if word and not word.startswith("#") for call in _members(word)}


class Filter:
    """One seccomp filter. ``default``: the action for calls that no rule is about."""

    def __init__(self, default: int) -> None:
        self._library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._filter = ctypes.c_void_p(self._library.seccomp_init(default))

    def add(self, call: str, action: int, *comparisons: Comparison) -> None:
        number = self._library.seccomp_syscall_resolve_name(call.encode())
        if number >= 0:  # negative: not of this architecture, or newer than the library
            array = (Comparison * len(comparisons))(*comparisons)
            done = self._library.seccomp_rule_add_array(self._filter, action, number, len(comparisons), array)
            assert done == 0, (call, os.strerror(-done))

    def load(self) -> None:
        done = self._library.seccomp_load(self._filter)
        assert done == 0, os.strerror(-done)


def seccomp(allowed: Iterable[str], families: Iterable[str]) -> None:
    """SystemCallFilter, RestrictAddressFamilies, RestrictNamespaces, LockPersonality, RestrictSUIDSGID."""
    refused = _ERRNO | errno.EPERM
    listed = Filter(refused)
    for call in allowed:
        listed.add(call, _ALLOW)
    narrow = Filter(_ALLOW)
    for family in set(range(1, 46)) - {FAMILIES[name] for name in families}:
        narrow.add("socket", _ERRNO | errno.EAFNOSUPPORT, Comparison(0, _EQUAL, family, 0))
    for flag in NAMESPACES:
        narrow.add("unshare", refused, Comparison(0, _MASKED, flag, flag))
        narrow.add("clone", refused, Comparison(0, _MASKED, flag, flag))
    narrow.add("setns", refused)
    narrow.add("clone3", _ERRNO | errno.ENOSYS)
    for personality in (8, 0x0040000):
        narrow.add("personality", refused, Comparison(0, _EQUAL, personality, 0))
    for bit in (0o4000, 0o2000):
        for call, argument in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2)):
            narrow.add(call, refused, Comparison(argument, _MASKED, bit, bit))
    narrow.load()
    listed.load()


def landlock(writable: Iterable[Path], devices: Iterable[Path]) -> None:
    """ProtectSystem=strict and DevicePolicy=closed: everything may be read but devices, little be written."""
    libc = ctypes.CDLL(None, use_errno=True)
    rules = ctypes.c_uint64(_READ | _WRITE)
    ruleset = libc.syscall(444, ctypes.byref(rules), ctypes.c_size_t(8), 0)
    assert ruleset >= 0, "there is no Landlock with ioctls (ABI 5)"

    def allow(path: Path, rights: int) -> None:
        if path.exists():
            if not path.is_dir():
                rights &= 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
            beneath = ctypes.create_string_buffer(rights.to_bytes(8, "little") + opened.to_bytes(4, "little"), 12)
            assert libc.syscall(445, ruleset, 1, beneath, 0) == 0, (path, os.strerror(ctypes.get_errno()))
            os.close(opened)

    for top in Path("/").iterdir():
        if top.name != "dev" and not top.is_symlink():
            allow(top, _READ | 1 << 15)
    allow(Path("/dev"), 1 << 3)  # what there is may be listed
    for path in (Path("/proc"), *writable):  # threads name themselves in /proc, which strict leaves alone
        allow(path, _READ | _WRITE)
    for device in devices:
        allow(device, _READ | _WRITE)
    assert libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.syscall(446, ruleset, 0) == 0, os.strerror(ctypes.get_errno())


def devices_of(found: dict[str, list[str]]) -> list[Path]:
    """The files of DeviceAllow's classes, by the names that /proc/devices has for them, and those of every unit."""
    allowed = {line.split()[0].removeprefix("char-") for line in found.get("DeviceAllow", ())}
    majors = {
        int(n) for n, name in re.findall(r"^ *(\d+) (\S+)$", Path("/proc/devices").read_text(), re.M) if name in allowed
    }
    walked = [Path(folder) / name for folder, _, names in os.walk("/dev") for name in names]
    named = [path for path in walked if not path.is_symlink() and os.major(path.stat().st_rdev) in majors]
    return [*named, *(Path("/dev") / name for name in _PSEUDO_DEVICES)]


def capabilities_of(found: dict[str, list[str]]) -> set[int]:
    """The numbers of AmbientCapabilities, which are all of CapabilityBoundingSet."""
    ambient, bounding = ({_CAPABILITIES[word] for word in found[key][0].split()} for key in _SETS)
    assert ambient == bounding
    return ambient


def become(uid: int, capabilities: set[int]) -> None:
    """That user, with these capabilities and no way to others. Groups: those that GPU files may be of."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in set(range(64)) - capabilities:
        libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0)
    libc.prctl(_KEEP_CAPABILITIES, 1, 0, 0, 0)
    known = {group.gr_name: group.gr_gid for group in grp.getgrall()}
    os.setgroups([known[name] for name in ("video", "render") if name in known])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    mask = sum(1 << capability for capability in capabilities)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    head, sets = struct.pack("=Ii", _CAPABILITY_VERSION, 0), struct.pack("=6I", low, low, low, high, high, high)
    assert libc.capset(head, sets) == 0, os.strerror(ctypes.get_errno())
    for capability in capabilities:
        assert libc.prctl(_AMBIENT, _RAISE, capability, 0, 0) == 0, os.strerror(ctypes.get_errno())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolve", action="store_true", help="print the unit's calls as JSON, and end")
    parser.add_argument("--calls", type=Path, help="what --resolve printed where there is systemd-analyze")
    parser.add_argument("--writable", type=Path, action="append", default=[], help="the unit's directories, /tmp")
    parser.add_argument("--uid", type=int, default=64_999)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    found = settings(UNIT)
    if given.resolve:
        print(json.dumps(calls(found["SystemCallFilter"])))
        return
    allowed = json.loads(given.calls.read_text()) if given.calls else calls(found["SystemCallFilter"])
    become(given.uid, capabilities_of(found))
    landlock(given.writable, devices_of(found))
    seccomp(allowed, found["RestrictAddressFamilies"][0].split())
    os.execvp(given.command[0], given.command)


if __name__ == "__main__":
    main()
