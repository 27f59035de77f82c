"""Finds toolchain images in an engine: the one that the files of containers/ would give now, never an older one."""

from builders.engine import toolchains
from builders.engine.container import Engine
from builders.engine.spec import ImageFacts
from builders.errors import ToolchainUnavailable


def find(engine: Engine, toolchain: str, platform: str) -> tuple[str, ImageFacts]:
    """Give a toolchain's image for a platform with the name that it has. Raises ToolchainUnavailable."""
    if toolchain.startswith(toolchains.OUTSIDE_PREFIX):
        return _outside(engine, toolchain.removeprefix(toolchains.OUTSIDE_PREFIX), platform)
    reference, image = look(engine, toolchain, platform)
    if image is None:
        raise ToolchainUnavailable(
            f"the engine has no {toolchain} image for {platform} as containers/ describes it now",
            next_step=f"`relbuild images build {toolchain} --platform {platform}`",
        )
    return reference, image


def look(engine: Engine, name: str, platform: str) -> tuple[str, ImageFacts | None]:
    """Give an image's present name and the image, or None where it or one that it stands on is not here."""
    reference, found = "", None
    for image in toolchains.chain(name):
        if image.parent and found is None:
            return reference, None
        reference = toolchains.image_tag(image.name, found.identity if found else None, platform)
        found = engine.image(reference)
    return reference, found


def find_base(engine: Engine, platform: str) -> ImageFacts | None:
    """Give the image that smoke tests of a platform run in, or None."""
    return look(engine, toolchains.BASE.name, platform)[1]


def _outside(engine: Engine, reference: str, platform: str) -> tuple[str, ImageFacts]:
    if "@sha256:" not in reference:
        raise ToolchainUnavailable(
            f"the toolchain image {reference!r} is not pinned", next_step="add its digest: image:REF@sha256:..."
        )
    found = engine.image(reference)
    if found is None:
        engine.pull(reference, platform)
        found = engine.image(reference)
    if found is None:
        raise ToolchainUnavailable(f"the engine pulled {reference} and does not show it")
    return reference, found
