"""The containers and volumes of one piece of work: made, used, and always removed."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType

from builders.engine import owner, tars
from builders.engine.container import Engine, connect
from builders.engine.pump import Pump, Watch
from builders.engine.spec import IDLE, Bound, ContainerSpec, ImageFacts
from builders.errors import BuildError

Output = Callable[[tuple[bytes, bytes]], None]
"""Takes pieces of standard output and standard error as they come."""


@dataclass(slots=True, kw_only=True)
class Room:
    """Fill volumes first, then start one container on them, then run commands in it. Leaving it removes everything."""

    engine: Engine
    image: ImageFacts
    labels: Mapping[str, str]
    watch: Watch
    _volumes: list[Bound] = field(default_factory=list)
    _containers: list[str] = field(default_factory=list)

    def __enter__(self) -> "Room":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What cannot be removed now has its labels: the next run removes it.
        for container in self._containers:
            with contextlib.suppress(BuildError):
                self.engine.remove_container(container)
        for bound in self._volumes:
            with contextlib.suppress(BuildError):
                self.engine.remove_volume(bound.volume)

    def furnish(
        self, read_only: Mapping[str, Iterable[bytes]], writable: Iterable[str] = (), *, user: int = tars.RECIPE_USER
    ) -> None:  # fmt: skip
        """Make a volume for every path: those of tar streams read-only, the others empty and the user's own."""
        for at in (*read_only, *writable):
            volume = self.engine.create_volume(self.labels)
            self._volumes.append(Bound(volume=volume, at=at, writable=at not in read_only))
        # Read-only volumes take no files, so they are filled through a container that sees them writable.
        loader = self._create(ContainerSpec(image=self.image, volumes=(), labels=self.labels, loader=True), ("true",))
        for at, chunks in read_only.items():
            self.engine.put(loader, at, self.watch.over(chunks))
        for at in writable:
            self.engine.put(loader, "/", tars.folder_entry(at.strip("/"), user))

    def start(self, spec: ContainerSpec) -> str:
        """Start the container that commands run in."""
        container = self._create(spec, IDLE)
        self.engine.start(container)
        return container

    def run(self, container: str, argv: Sequence[str], take: Output) -> int:
        """Run a command to its end and give its exit code. On TimedOut and Interrupted the container is dead."""
        announced = self.engine.prepare_exec(container, argv)
        pump = Pump(items=self.engine.run_exec(announced))
        try:
            pump.run(take, self.watch.check)
        except BaseException:
            self.engine.kill(container)
            raise
        finally:
            pump.close()
        return self.engine.exec_exit_code(announced)

    def _create(self, spec: ContainerSpec, command: Sequence[str]) -> str:
        container = self.engine.create(replace(spec, volumes=tuple(self._volumes)), command)
        self._containers.append(container)
        return container


def remove_leftovers() -> tuple[str, ...]:
    """Remove the containers and volumes of runs that were killed, never those of a live one; name what was removed."""
    with connect() as engine:
        return (
            *_remove(engine.containers_with(owner.OWNER_LABEL), engine.remove_container),
            *_remove(engine.volumes_with(owner.OWNER_LABEL), engine.remove_volume),
        )


def _remove(found: Mapping[str, Mapping[str, str]], remove: Callable[[str], None]) -> Iterator[str]:
    for name, labels in found.items():
        if owner.is_left_over(labels):
            remove(name)
            yield name
