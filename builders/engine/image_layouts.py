"""Takes toolchain images out of the engine as OCI layouts, which travel to other nodes with a solve."""

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from builders.engine.container import Engine
from builders.engine.spec import ImageFacts
from builders.errors import BuildError
from builders.tar_stream import EntryKind, Malformed, TarStream

_WANTED: Final = re.compile(rb"oci-layout|index\.json|blobs/sha256/([0-9a-f]{64})")


def ensure(engine: Engine, image: ImageFacts, cache: Path) -> str:
    """Give an image as the source of a named build context, exporting it once. Raises BuildError."""
    folder = cache / image.identity.removeprefix("sha256:")
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=cache) as room:
            new = Path(room) / "layout"
            _unpack(engine.export_image(image.identity), new)
            if not (new / "blobs/sha256" / folder.name).is_file():
                raise BuildError(
                    f"the engine exports the image {image.identity} in another form than an OCI layout",
                    next_step="nodes need an engine with the containerd image store: `ci/engine up` sets one up",
                )
            _move(new, folder)
    return f"oci-layout://{folder}@{image.identity}"


def _unpack(chunks: Iterable[bytes], folder: Path) -> None:
    (folder / "blobs/sha256").mkdir(parents=True)
    stream = TarStream(chunks)
    try:
        for entry in stream:
            found = _WANTED.fullmatch(entry.name)
            if found is None or entry.kind is not EntryKind.FILE:
                continue
            digest = hashlib.sha256()
            with (folder / entry.name.decode("ascii")).open("xb") as file:
                for chunk in stream.content():
                    digest.update(chunk)
                    file.write(chunk)
            if found[1] and digest.hexdigest().encode() != found[1]:
                raise BuildError(f"the engine's export has other bytes than sha256:{found[1].decode()}")
    except Malformed as error:
        raise BuildError(f"the engine's export of an image is broken: {error}") from error


def _move(new: Path, folder: Path) -> None:
    try:
        new.rename(folder)
    except OSError:
        # Another run was as far; the bytes are the same.
        if not folder.is_dir():
            raise
        shutil.rmtree(new)
