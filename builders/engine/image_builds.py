"""Makes toolchain images: pulled by digest where a registry answers, else built from the machine's own distribution."""

import contextlib
import fcntl
import os
import platform as platform_module
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from builders import command
from builders.engine import buildx, image_lookup, pin_file, toolchains
from builders.engine.container import Engine, connect
from builders.engine.pin_file import Bootstrap, Pins
from builders.engine.spec import ImageFacts
from builders.engine.toolchains import BASE, IMAGES, REPOSITORY, ToolchainImage, platform_target
from builders.errors import BuildError, ToolchainUnavailable
from builders.hashing import file_sha256

PLATFORMS = ("linux/amd64", "linux/arm64", "linux/arm/v7")
USERS_BASE = f"{REPOSITORY}/base:latest"
"""What `FROM relbuild/base` means in a Dockerfile of a project: the base image of every platform that is here."""

_TIMEOUT_S = 3600.0
_OWN_NAME = re.compile(rf"{REPOSITORY}/[a-z]+:[0-9a-f]{{12}}-(amd64|arm64|arm-v7)")
# The same bytes for the same packages, and no time spent on compressing what stays on this machine.
_EXPORT = {"type": "image", "compression": "uncompressed", "force-compression": "true"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRow:
    """One image as `relbuild images list` shows it. `identity` is empty where it is not in the engine."""

    name: str
    platform: str
    reference: str
    identity: str
    size_bytes: int


def default_cache() -> Path:
    """Give the folder where root file systems, wheels and the log of image builds are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "relbuild"


def missing(wanted: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Give those pairs of toolchain and platform that the engine has no present image for."""
    with connect() as engine:
        return tuple(
            (name, platform)
            for name, platform in sorted(set(wanted))
            if name in IMAGES and image_lookup.look(engine, name, platform)[1] is None
        )


def prepare(
    wanted: Iterable[tuple[str, str]], on_step: Callable[[str], None], cancelled: threading.Event | None = None
) -> None:
    """Build every image that is missing, with those that it stands on. `wanted` holds toolchain and platform."""
    absent = missing(wanted)
    if absent:
        works = ImageWorks(on_step=on_step, cancelled=cancelled or threading.Event())
        for name, platform in absent:
            works.ensure(name, platform)


def listing() -> tuple[ImageRow, ...]:
    """Name every image of the table: those that the engine has, and those that it lacks for its own platform."""
    with connect() as engine:
        host = engine.facts().os_arch
        rows = [_row(engine, name, platform) for name in IMAGES for platform in PLATFORMS]
    return tuple(row for row in rows if row.identity or row.platform == host)


def prune() -> tuple[str, ...]:
    """Remove the images that relbuild built from files which containers/ no longer has; name them."""
    with connect() as engine:
        present = {_row(engine, name, platform).reference for name in IMAGES for platform in PLATFORMS}
        stale = tuple(name for name in engine.image_names() if _OWN_NAME.fullmatch(name) and name not in present)
        for name in stale:
            engine.remove_image(name)
    return stale


def pull(on_step: Callable[[str], None]) -> tuple[str, ...]:
    """Bring every outside image that is pinned for the engine's platform, by digest; name them."""
    pins = pin_file.read(pins_file())
    with connect() as engine:
        platform = engine.facts().os_arch
        wanted = {name: pin.by_digest(platform) for name, pin in pins.images.items() if platform in pin.platforms}
        if not wanted:
            raise ToolchainUnavailable(
                f"no outside image is pinned for {platform} in {pins_file()}",
                next_step="`relbuild images build` makes all images from this machine's own distribution",
            )
        for name, reference in wanted.items():
            on_step(f"pulling {name}: {reference}")
            engine.pull(reference, platform)
    return tuple(wanted)


def pin(path: Path, cache: Path) -> Pins:
    """Write the digests of the root file systems that are here into a file of pins; outside images stay as they are.

    Raises BuildError where none was made here yet.
    """
    rootfs = cache / "rootfs"
    tars = {platform: rootfs / _tar_name(platform) for platform in PLATFORMS}
    here = {platform: f"sha256:{file_sha256(tar)}" for platform, tar in tars.items() if tar.is_file()}
    if not here:
        raise BuildError(f"no root file system is in {rootfs}", next_step="`relbuild images build base` makes one")
    old = pin_file.read(path)
    suite = _text(rootfs / "suite")
    same = old.bootstrap if old.bootstrap and old.bootstrap.suite == suite else None
    measured = Bootstrap(
        distribution=platform_module.freedesktop_os_release()["ID"], suite=suite, epoch=int(_text(rootfs / "epoch")),
        rootfs={**(same.rootfs if same else {}), **here}, left_out=same.left_out if same else {},
    )  # fmt: skip
    new = Pins(bootstrap=measured, images=old.images)
    pin_file.write(path, new)
    return new


def pins_file() -> Path:
    """Say where this installation's pins are."""
    return toolchains.folder() / "pins.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageWorks:
    """Builds images one after the other. One process at a time does so for one platform and cache folder."""

    on_step: Callable[[str], None]
    cancelled: threading.Event = field(default_factory=threading.Event)
    cache: Path = field(default_factory=default_cache)
    fresh: bool = False
    """Build even what is there, without the layers of earlier builds; its parents too."""

    def ensure(self, name: str, platform: str) -> ImageFacts:
        """Give an image, building it and those that it stands on where they are missing."""
        image = toolchains.chain(name)[-1]
        if image.parent:
            self.ensure(image.parent, platform)
        with self._alone(platform), connect() as engine:
            reference, found = image_lookup.look(engine, name, platform)
            return found if found and not self.fresh else self._make(engine, image, platform, reference)

    def name_base_for_users(self) -> None:
        """Let `relbuild/base` mean the base image of all platforms that are here."""
        with connect() as engine:
            here = [platform for platform in PLATFORMS if image_lookup.find_base(engine, platform)]
        tars = [platform for platform in here if (self.cache / "rootfs" / _tar_name(platform)).is_file()]
        if tars:
            self._solve(self._base_solve(tuple(tars), USERS_BASE), f"naming {USERS_BASE}")

    def _make(self, engine: Engine, image: ToolchainImage, platform: str, reference: str) -> ImageFacts:
        if image.parent:
            self._build(engine, image, platform, reference)
        elif not self._pulled_base(engine, platform, reference):
            self._bootstrap(platform)
            self._solve(self._base_solve((platform,), reference), f"building {reference}")
        found = engine.image(reference)
        if found is None:
            raise BuildError(f"{reference} was built, and the engine does not show it",
                             next_step=f"read {self._log_path}; is another engine the current context?")  # fmt: skip
        return found

    def _build(self, engine: Engine, image: ToolchainImage, platform: str, reference: str) -> None:
        parent_name, parent = image_lookup.look(engine, image.parent, platform)
        context = toolchains.folder()
        contexts = {"wheels": str(self._fetch_wheels(image, platform))} if image.wheels else {}
        solve = buildx.Solve(
            context=context, dockerfile=context / image.name / "Dockerfile", platforms=(platform,),
            output={**_EXPORT, "name": reference}, contexts=contexts, network=True, fresh=self.fresh,
            args={"BASE": parent_name, "SOURCE_DATE_EPOCH": str(parent.created if parent else 0)},
        )  # fmt: skip
        self._solve(solve, f"building {reference} from Debian packages (once; minutes, longer when emulated)")

    def _base_solve(self, platforms: tuple[str, ...], reference: str) -> buildx.Solve:
        rootfs = self.cache / "rootfs"
        return buildx.Solve(
            context=rootfs, dockerfile=toolchains.folder() / BASE.name / "Dockerfile", platforms=platforms,
            output={**_EXPORT, "name": reference}, args={"SOURCE_DATE_EPOCH": _text(rootfs / "epoch")},
        )  # fmt: skip

    def _pulled_base(self, engine: Engine, platform: str, reference: str) -> bool:
        outside = pin_file.read(pins_file()).images.get(BASE.name)
        if outside is None or platform not in outside.platforms:
            return False
        pinned = outside.by_digest(platform)
        try:
            self.on_step(f"pulling {pinned}")
            engine.pull(pinned, platform)
        except ToolchainUnavailable:
            self.on_step("no registry answers: the base comes from this machine's own distribution")
            return False
        engine.tag(pinned, reference)
        return True

    def _bootstrap(self, platform: str) -> None:
        """Make a root file system by mmdebstrap, and tell where it is not the pinned one."""
        rootfs, deb = self.cache / "rootfs", platform_target(platform).deb
        tar = rootfs / _tar_name(platform)
        if not tar.is_file():
            self.on_step(f"making a {deb} root file system of this machine's own distribution (mmdebstrap, as root)")
        self._script("bootstrap", str(rootfs), deb)
        pins, digest = pin_file.read(pins_file()), f"sha256:{file_sha256(tar)}"
        if difference := pin_file.other_root(pins, _text(rootfs / "suite"), platform, digest):
            self.on_step(f"warning: {difference}")

    def _fetch_wheels(self, image: ToolchainImage, platform: str) -> Path:
        self.on_step(f"fetching the wheels of {image.name} for {platform} (hashes are pinned)")
        wheels = self.cache / "wheels" / image.name
        self._script("fetch-wheels", str(wheels), image.name, platform_target(platform).deb)
        return wheels

    def _script(self, name: str, *arguments: str) -> None:
        env = {"PYTHON": sys.executable, **os.environ}
        script = toolchains.folder() / name
        code = command.stream(["bash", str(script), *arguments], on_output=self._log, cancelled=self.cancelled,
                              timeout_s=_TIMEOUT_S, env=env)  # fmt: skip
        if code != 0:
            raise ToolchainUnavailable(
                f"containers/{name} {arguments[-1]} ended with {code}: {self._last_words()}",
                next_step=f"read {self._log_path}; its last lines name the mend",
            )

    def _solve(self, solve: buildx.Solve, step: str) -> None:
        self.on_step(step)
        what = f"{step} (log: {self._log_path})"
        buildx.run(solve, on_output=self._log, cancelled=self.cancelled, timeout_s=_TIMEOUT_S, what=what)

    def _log(self, chunk: bytes) -> None:
        self.cache.mkdir(parents=True, exist_ok=True)
        with self._log_path.open("ab") as log:
            log.write(chunk)

    @property
    def _log_path(self) -> Path:
        return self.cache / "image-builds.log"

    def _last_words(self) -> str:
        lines = self._log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line for line in reversed(lines) if "error" in line.lower()), lines[-1] if lines else "")[:300]

    @contextlib.contextmanager
    def _alone(self, platform: str) -> Iterator[None]:
        self.cache.mkdir(parents=True, exist_ok=True)
        with (self.cache / f"images-{platform_target(platform).deb}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.on_step(f"waiting for another run that builds images for {platform}")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _row(engine: Engine, name: str, platform: str) -> ImageRow:
    reference, found = image_lookup.look(engine, name, platform)
    return ImageRow(
        name=name, platform=platform, reference=reference, identity=found.identity if found else "",
        size_bytes=found.size_bytes if found else 0,
    )  # fmt: skip


def _tar_name(platform: str) -> str:
    return f"rootfs-{platform.removeprefix('linux/').replace('arm/v7', 'armv7')}.tar"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()
