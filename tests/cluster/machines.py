"""Machines on this machine: a hub and some hosts, each with its own network, name, processes, /tmp, /dev/shm and /run/lock.

They are namespaces of Linux on a bridge of their own, so root and iproute2 are needed; `unavailable` says what is missing. The first
process of a machine collects orphans, as an init does: without one that does, what a killed raylet leaves stays for ever.

    with machines() as net:
        net.run("h1", ["hostname"])
        net.cut("h1"); net.mend("h1")      the cable: nobody is told
        net.lose("h1"); net.back("h1")     a power cut: every process is gone at once; booted again, it is empty
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tasks.adapters.processes.process_guard import die_with_parent

HUB = "hub"
HOSTS = ("h1", "h2", "h3")
BOOT_SECONDS, END_SECONDS = 20, 60
OWN = ("/tmp", "/dev/shm", "/run/lock")
INIT = """
set -e; hostname "$0"; mount -t proc proc /proc
for kept in "${@:2}"; do mkdir -p "/run/kept$kept"; mount --bind "$kept" "/run/kept$kept"; done
for own in /tmp /dev/shm /run/lock; do mount -t tmpfs -o mode=1777,size="$1" tmpfs "$own"; done
for kept in "${@:2}"; do mkdir -p "$kept"; mount --move "/run/kept$kept" "$kept"; done
: > /run/lock/booted
sleep infinity & while :; do wait; done
"""


def unavailable() -> str:
    """Why no machines can be made here, or nothing."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "machines are namespaces of Linux, which root alone can make"
    missing = [command for command in ("ip", "unshare", "nsenter", "mount") if not shutil.which(command)]
    if missing:
        return f"{', '.join(missing)} is not installed (Debian: iproute2, util-linux)"
    name = f"kst-{os.getpid()}"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return f"no network namespace can be made: {tried.stderr.strip()}" if tried.returncode else ""


class Machines:
    """The hub and the hosts of one cluster. `kept`: folders under /tmp that all machines see, as a shared disk."""

    def __init__(self, folder: Path, *, hosts: Sequence[str] = HOSTS, kept: Sequence[Path] = (), memory: str = "2g") -> None:
        self.hosts, self.names = tuple(hosts), (HUB, *hosts)
        self._mark = f"ks{os.getpid()}"
        self._kept, self._memory, self.folder = [str(path) for path in kept], memory, folder
        self._inits: dict[str, tuple[subprocess.Popen[bytes], int]] = {}
        self._net = 77 + os.getpid() % 100

    def address(self, name: str) -> str:
        return f"10.{self._net}.0.{self.names.index(name) + 1}"

    def up(self) -> None:
        """Make the network and boot every machine; half a second."""
        _ip("netns", "add", self._bridge)
        _ip("-n", self._bridge, "link", "add", "br0", "type", "bridge")
        _ip("-n", self._bridge, "link", "set", "br0", "up")
        known = "127.0.0.1 localhost\n" + "".join(f"{self.address(name)} {name}\n" for name in self.names)
        for name in self.names:
            (etc := self._etc(name)).mkdir(parents=True)
            (etc / "hosts").write_text(known)
            self._plug(name)
            self._boot(name)

    def down(self) -> None:
        """End every process and remove every trace; also of a network that came up in part."""
        for name in self.names:
            self._end(name)
            subprocess.run(["ip", "netns", "del", self._space(name)], capture_output=True, check=False)
            shutil.rmtree(self._etc(name), ignore_errors=True)
        subprocess.run(["ip", "netns", "del", self._bridge], capture_output=True, check=False)

    def start(self, name: str, command: Sequence[object], env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[Any]:
        """A command under way on a machine, in the folder that this process is in."""
        enter = ["nsenter", "-t", str(self._inits[name][1]), "-m", "-u", "-i", "-n", "-p", f"--wd={Path.cwd()}", "--"]
        return subprocess.Popen([*enter, *map(str, command)], env={**os.environ, **(env or {})}, **{"stdin": subprocess.DEVNULL, **options})

    def run(self, name: str, command: Sequence[object], env: Mapping[str, str] | None = None, *, seconds: float = 120) -> str:
        """What a command says on a machine. AssertionError with all that it said where it fails."""
        with self.start(name, command, env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            try:
                said: str = process.communicate(timeout=seconds)[0]
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert process.returncode == 0, f"{name}: {command}: {process.returncode}\n{said}"
        return said

    def is_up(self, name: str) -> bool:
        return name in self._inits

    def log(self, name: str, what: str) -> IO[bytes]:
        return (self.folder / f"{name}-{what}.log").open("ab")

    def processes(self, name: str) -> dict[int, str]:
        """What runs on a machine, but for its init: pids as this process sees them, and command lines."""
        found = dict[int, str]()
        if name not in self._inits:
            return found
        init = self._inits[name][1]
        space = Path(f"/proc/{init}/ns/pid").stat().st_ino
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if (entry / "ns" / "pid").stat().st_ino == space and int(entry.name) != init:
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                    if line and line != "sleep infinity":
                        found[int(entry.name)] = line
        return found

    def lose(self, name: str) -> None:
        """A power cut."""
        self.cut(name)
        self._end(name)

    def back(self, name: str) -> None:
        """Boot it again, empty."""
        self._boot(name)
        self.mend(name)

    def cut(self, name: str) -> None:
        """Pull the cable."""
        _ip("-n", self._bridge, "link", "set", f"to-{name}", "down")

    def mend(self, name: str) -> None:
        """Put the cable back."""
        _ip("-n", self._bridge, "link", "set", f"to-{name}", "up")

    @property
    def _bridge(self) -> str:
        return f"{self._mark}-net"

    def _space(self, name: str) -> str:
        return f"{self._mark}-{name}"

    def _etc(self, name: str) -> Path:
        return Path("/etc/netns") / self._space(name)

    def _plug(self, name: str) -> None:
        space = self._space(name)
        _ip("netns", "add", space)
        _ip("-n", self._bridge, "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("-n", self._bridge, "link", "set", f"to-{name}", "master", "br0", "up")
        _ip("-n", space, "link", "set", "lo", "up")
        _ip("-n", space, "addr", "add", f"{self.address(name)}/24", "dev", "eth0")
        _ip("-n", space, "link", "set", "eth0", "up")

    def _boot(self, name: str) -> None:
        own = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "bash", "-c", INIT]
        command = ["ip", "netns", "exec", self._space(name), *own, name, self._memory, *self._kept]
        quiet = subprocess.DEVNULL
        # It ends with this process, whatever ends that, and every process of the machine with it.
        outer = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, preexec_fn=die_with_parent)  # noqa: PLW1509
        deadline = time.monotonic() + BOOT_SECONDS
        while not (init := _booted(outer.pid)):
            assert outer.poll() is None, f"{name} did not boot"
            assert time.monotonic() < deadline, f"{name} did not boot within {BOOT_SECONDS} s"
            time.sleep(0.02)
        self._inits[name] = outer, init

    def _end(self, name: str) -> None:
        """The kernel ends every process of a machine with its init."""
        outer, init = self._inits.pop(name, (None, 0))
        if outer is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(init, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):  # what waits for a disk ends when that answers
                outer.wait(END_SECONDS)


def _booted(outer: int) -> int:
    """The init below `unshare`, once the machine is up; `ip netns exec` becomes `unshare`."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        child = int(Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0])
        if (Path(f"/proc/{child}/root") / "run" / "lock" / "booted").exists():
            return child
    return 0


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextlib.contextmanager
def machines(folder: Path, **options: Any) -> Iterator[Machines]:
    """A hub and hosts, ended whatever happens."""
    net = Machines(folder, **options)
    try:
        net.up()
        yield net
    finally:
        net.down()
