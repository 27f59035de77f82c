"""With what BuildKit builds: the images that a Dockerfile stands on, or the one that a recipe is emulated in.

`FROM relbuild/NAME` means the image that containers/ describes now, for the target's platform.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Final

from builders import materials
from builders.engine import image_lookup, toolchains
from builders.engine.container import connect
from builders.engine.spec import ImageFacts
from builders.errors import ToolchainUnavailable
from builders.model import CommandRecipe, Digest, DockerfileRecipe, Material, Recipe, Toolchain
from builders.targets import Target

_ISOLATION: Final = (
    "BuildKit: a private container for each step, no network unless asked; memory and CPU are not bounded"
)


def of_dockerfile(recipe: DockerfileRecipe, target: Target, version: str) -> Toolchain:
    """Cover BuildKit and those of relbuild's own images that the Dockerfile stands on; others count by their names."""
    own = {name: image.identity for name, _, image in own_images(recipe, target)}
    missing = [image for image in recipe.images if image in _own_names() and image not in own]
    if missing:
        name = missing[0].removeprefix(f"{toolchains.REPOSITORY}/")
        raise ToolchainUnavailable(
            f"the image {missing[0]} for {target.oci}, on which {recipe.dockerfile} stands, is not built yet",
            next_step=f"`relbuild images build {name} --platform {target.oci}`; `relbuild matrix` does it by itself",
        )
    bases = [f"{image}@{own[image]}" if image in own else image for image in recipe.images]
    listing = json.dumps([version, bases, target.oci])
    return Toolchain(
        name="buildx",
        identity=Digest(f"sha256:{hashlib.sha256(listing.encode()).hexdigest()}"),
        description=f"{version} for {target.oci} from {', '.join(bases) or 'scratch'}",
        isolation=_ISOLATION,
    )


def of_emulated(recipe: CommandRecipe, target: Target) -> Toolchain:
    """Name the image that a recipe is emulated in. Raises ToolchainUnavailable where it is not here."""
    with connect() as engine:
        reference, image = image_lookup.find(engine, recipe.toolchain, target.oci)
    return Toolchain(
        name=recipe.toolchain,
        identity=image.identity,
        description=f"{recipe.toolchain} image {reference} {image.identity} ({target.oci}, emulated)",
        isolation=_ISOLATION,
    )


def unpinned_images(images: Sequence[str]) -> tuple[str, ...]:
    """Name those images of a Dockerfile that no digest holds to their bytes."""
    return tuple(image for image in images if "@sha256:" not in image and image not in _own_names())


def own_images(recipe: Recipe, target: Target) -> tuple[tuple[str, str, ImageFacts], ...]:
    """Give the own images that a recipe uses: what a FROM line calls them, their present names, and them."""
    images = recipe.images if isinstance(recipe, DockerfileRecipe) else ()
    used = [name for name in toolchains.IMAGES if f"{toolchains.REPOSITORY}/{name}" in images]
    with connect() as engine:
        looked = [(name, *image_lookup.look(engine, name, target.oci)) for name in used]
    return tuple(
        (f"{toolchains.REPOSITORY}/{name}", reference, image) for name, reference, image in looked if image is not None
    )


def base_images(recipe: DockerfileRecipe, target: Target) -> tuple[Material, ...]:
    """Give the images that a Dockerfile stands on as materials."""
    own = {name: image.identity for name, _, image in own_images(recipe, target)}
    return tuple(
        materials.image(name, own.get(name) or (f"sha256:{digest}" if digest else ""), target.oci)
        for name, _, digest in (image.partition("@sha256:") for image in recipe.images)
    )


def _own_names() -> frozenset[str]:
    return frozenset(f"{toolchains.REPOSITORY}/{name}" for name in toolchains.IMAGES)
