"""An engine in relbuild's own words: the calls that builds need, with its errors translated."""

import contextlib
import os
import socket
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from builders.engine.docker_sdk import DEFAULT_SOCKET, NEXT_ENGINE, gone_is_fine, sdk, translated
from builders.engine.pump import in_pieces
from builders.engine.spec import Bound, ContainerSpec, EngineFacts, ImageFacts, exact_env
from builders.errors import EngineUnavailable, ToolchainUnavailable
from builders.model import Digest

_QUICK_S: Final = 1.5
_PATIENT_S: Final = 300.0
_MEGABYTE: Final = 1 << 20


def engine_facts() -> EngineFacts:
    """Ask the engine what it is. Raises EngineUnavailable within two seconds where none answers."""
    with connect() as engine:
        return engine.facts()


@contextlib.contextmanager
def connect() -> Iterator["Engine"]:
    """Open the engine that the docker command line would use: DOCKER_HOST, else its current context."""
    docker = sdk()
    with translated("the container engine"):
        endpoint = _endpoint(docker)
        _knock(endpoint)
        options = {"base_url": endpoint, "use_ssh_client": True} if endpoint.startswith("ssh://") else {}
        if endpoint and not options:
            options = {"environment": {**os.environ, "DOCKER_HOST": endpoint}}
        make = docker.DockerClient if "base_url" in options else docker.from_env
        client = make(timeout=_QUICK_S, **options)
    client.api.timeout = _PATIENT_S
    try:
        yield Engine(client.api)
    finally:
        client.close()


class Engine:
    """The calls of one engine that builds need. Every method raises a BuildError where the engine fails."""

    def __init__(self, api: Any) -> None:
        self._api = api

    # --- the engine and its images ---------------------------------------------------------------------------------

    def facts(self) -> EngineFacts:
        with translated("the container engine"):
            said, version = self._api.info(), self._api.version()
        return EngineFacts(
            version=version["Version"], api=version["ApiVersion"], os_arch=f"{version['Os']}/{version['Arch']}",
            containerd_store="containerd.snapshotter" in str(said.get("DriverStatus")), cpus=int(said["NCPU"]),
            memory_bytes=int(said["MemTotal"]), name=str(said.get("Name", "")), endpoint=str(self._api.base_url),
        )  # fmt: skip

    def image(self, reference: str) -> ImageFacts | None:
        """Give an image of the engine's own store, or None."""
        try:
            with translated(f"looking for the image {reference}", passing=sdk().errors.NotFound):
                found = self._api.inspect_image(reference)
        except sdk().errors.NotFound:
            return None
        variant = f"/{found['Variant']}" if found.get("Variant") and found["Architecture"] == "arm" else ""
        return ImageFacts(
            identity=Digest(found["Id"]), platform=f"{found['Os']}/{found['Architecture']}{variant}",
            env=tuple(found["Config"].get("Env") or ()), names=tuple(found.get("RepoTags") or ()),
            created=_unix_time(found.get("Created") or ""), size_bytes=int(found.get("Size") or 0),
        )  # fmt: skip

    def image_names(self) -> tuple[str, ...]:
        """Name every tagged image."""
        with translated("listing the images"):
            return tuple(sorted({name for row in self._api.images() for name in row.get("RepoTags") or ()}))

    def pull(self, reference: str, platform: str) -> None:
        """Bring an image from its registry. Raises ToolchainUnavailable where no registry gives it."""
        try:
            with translated(f"pulling {reference}", passing=sdk().errors.APIError):
                for line in self._api.pull(reference, platform=platform, stream=True, decode=True):
                    if "error" in line:
                        raise _not_pulled(reference, str(line["error"]))
        except sdk().errors.APIError as error:
            raise _not_pulled(reference, str(error.explanation or error)) from error

    def tag(self, identity: str, name: str) -> None:
        """Give an image one more name."""
        with translated(f"tagging {name}"):
            self._api.tag(identity, *name.rsplit(":", 1))

    def export_image(self, identity: str) -> Generator[bytes, None, None]:
        """Give an image as a tar stream, an OCI layout where the engine has the containerd store."""
        with translated(f"exporting the image {identity}"):
            yield from self._api.get_image(identity)

    def remove_image(self, name: str) -> None:
        """Take a name away, and the image with its last one."""
        with translated(f"removing {name}"), gone_is_fine():
            self._api.remove_image(name, noprune=False)

    # --- volumes and containers ------------------------------------------------------------------------------------

    def create_volume(self, labels: Mapping[str, str]) -> str:
        with translated("making a volume"):
            return str(self._api.create_volume(labels=dict(labels))["Name"])

    def create(self, spec: ContainerSpec, command: Sequence[str]) -> str:
        """Make a container of exactly the image that is named, without starting it."""
        with translated("making a container"):
            made = self._api.create_container(
                spec.image.identity, command=list(command), entrypoint=[], user=f"{spec.user}:{spec.user}",
                environment=exact_env(spec), labels=dict(spec.labels), working_dir=spec.working_dir,
                hostname=spec.host_name, host_config=self._loader(spec) if spec.loader else self._hardened(spec),
                platform=spec.image.platform, healthcheck={"test": ["NONE"]},
            )  # fmt: skip
        return str(made["Id"])

    def start(self, container: str) -> None:
        with translated("starting a container"):
            self._api.start(container)

    def put(self, container: str, path: str, chunks: Iterable[bytes]) -> None:
        """Unpack a tar stream at a path of a container that was never started."""
        with translated(f"sending files to {path}"):
            self._api.put_archive(container, path, in_pieces(chunks))

    def get(self, container: str, path: str) -> Generator[bytes, None, None]:
        """Give a path of a container as a tar stream. Close it: the engine holds the container until then."""
        # The SDK's get_archive gives no way to stop in the middle of the stream.
        url = f"{self._api.base_url}/v{self._api.api_version}/containers/{container}/archive"
        with translated(f"reading {path}"):
            response = self._api.get(url, params={"path": path}, stream=True, timeout=_PATIENT_S)
            try:
                self._api._raise_for_status(response)  # noqa: SLF001 - gives the SDK's errors, as its own calls do
                yield from response.iter_content(_MEGABYTE)
            finally:
                response.close()

    def prepare_exec(self, container: str, argv: Sequence[str]) -> str:
        """Announce a command to run in a live container with the container's own user and environment."""
        with translated("preparing a command"):
            return str(self._api.exec_create(container, list(argv))["Id"])

    def run_exec(self, announced: str) -> Iterator[tuple[bytes, bytes]]:
        """Run it; give what it prints as pairs of standard output and standard error, of which one is empty."""
        with translated("running a command"):
            stream = self._api.exec_start(announced, stream=True, demux=True)
            try:
                for stdout, stderr in stream:
                    yield stdout or b"", stderr or b""
            finally:
                # The stream's own close() leaves one of the connection's two file objects open.
                stream._response.close()  # noqa: SLF001

    def exec_exit_code(self, announced: str) -> int:
        """Give how it ended. Raises EngineUnavailable where the engine stopped before it did."""
        with translated("asking how a command ended"):
            code = self._api.exec_inspect(announced)["ExitCode"]
        if code is None:
            raise EngineUnavailable("the container engine lost a running command", next_step=NEXT_ENGINE)
        return int(code)

    def out_of_memory(self, container: str) -> bool:
        """Tell whether the kernel killed one of its processes for its memory limit."""
        with translated("asking after a container"):
            return bool(self._api.inspect_container(container)["State"].get("OOMKilled"))

    def kill(self, container: str) -> None:
        """End all its processes and wait until they are gone. One that ended already is fine."""
        with translated("killing a container"), gone_is_fine():
            self._api.kill(container)
            self._api.wait(container)

    def remove_container(self, container: str) -> None:
        with translated("removing a container"), gone_is_fine():
            self._api.remove_container(container, force=True, v=True)

    def remove_volume(self, volume: str) -> None:
        with translated("removing a volume"), gone_is_fine():
            self._api.remove_volume(volume, force=True)

    def containers_with(self, label: str) -> dict[str, dict[str, str]]:
        """Give every container that has a label, with all its labels, by identifier."""
        with translated("listing containers"):
            rows = self._api.containers(all=True, filters={"label": label})
        return {row["Id"]: dict(row.get("Labels") or {}) for row in rows}

    def volumes_with(self, label: str) -> dict[str, dict[str, str]]:
        """Give every volume that has a label, with all its labels, by name."""
        with translated("listing volumes"):
            rows = self._api.volumes(filters={"label": label})["Volumes"] or ()
        return {row["Name"]: dict(row.get("Labels") or {}) for row in rows}

    def _loader(self, spec: ContainerSpec) -> Any:
        return self._api.create_host_config(
            binds=[_bind(volume, writable=True) for volume in spec.volumes], network_mode="none"
        )

    def _hardened(self, spec: ContainerSpec) -> Any:
        # A limit beyond the machine would be refused; it bounds nothing there.
        cpus = min(spec.cpus, float(self.facts().cpus)) if spec.cpus else 0.0
        memory = {"mem_limit": spec.memory_bytes, "memswap_limit": spec.memory_bytes} if spec.memory_bytes else {}
        own = f"rw,exec,nosuid,nodev,mode=0755,uid={spec.user},gid={spec.user}"
        return self._api.create_host_config(
            binds=[_bind(volume, writable=volume.writable) for volume in spec.volumes],
            tmpfs={"/tmp": "rw,exec,nosuid,nodev,mode=1777,size=75%"} | dict.fromkeys(spec.memory_folders, own),  # noqa: S108 - inside the container
            read_only=True, network_mode="bridge" if spec.network else "none", ipc_mode="private",
            cap_drop=["ALL"], security_opt=["no-new-privileges"], pids_limit=spec.pids, init=True,
            ulimits=[sdk().types.Ulimit(name="core", soft=0, hard=0)],
            log_config=sdk().types.LogConfig(type="none"),
            **({"nano_cpus": int(cpus * 1e9)} if cpus else {}), **memory,
            **({"cpuset_cpus": spec.cpu_set} if spec.cpu_set else {}),
        )  # fmt: skip


def _bind(bound: Bound, *, writable: bool) -> str:
    return f"{bound.volume}:{bound.at}:{'rw' if writable else 'ro'}"


def _endpoint(docker: Any) -> str:
    """Give DOCKER_HOST, else the address of the current context where it is not the default one, else nothing."""
    if os.environ.get("DOCKER_HOST"):
        return os.environ["DOCKER_HOST"]
    context = docker.context.ContextAPI.get_current_context()
    return "" if context is None or context.name == "default" else str(context.Host)


def _knock(endpoint: str) -> None:
    """Raise OSError where nobody listens on a Unix socket: the SDK would leave its own socket open then."""
    if endpoint.startswith("unix://") or not endpoint:
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(_QUICK_S)
            door.connect(endpoint.removeprefix("unix://") or DEFAULT_SOCKET)


def _unix_time(text: str) -> int:
    """Read the seconds of RFC 3339 in UTC; 0 where the engine does not know them."""
    seconds = text[: len("2000-01-01T00:00:00")]
    return int(datetime.fromisoformat(seconds + "+00:00").timestamp()) if seconds else 0


def _not_pulled(reference: str, reason: str) -> ToolchainUnavailable:
    return ToolchainUnavailable(
        f"the image {reference} is not in the engine, and no registry gives it: {reason.strip()[:300]}",
        next_step="check the name and the digest, log in to the registry, or load the image (`docker load`)",
    )
