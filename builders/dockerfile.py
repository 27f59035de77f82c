"""What a Dockerfile says of the images that it stands on."""

_FROM_AND_IMAGE = 2
_WITH_STAGE = 4


def base_images(text: str) -> tuple[str, ...]:
    """Name the images of a Dockerfile's FROM lines, in order, without its own stages and `scratch`."""
    stages = {"scratch"}
    found: list[str] = []
    for line in text.splitlines():
        words = [word for word in line.split() if not word.startswith("--")]
        if len(words) < _FROM_AND_IMAGE or words[0].upper() != "FROM":
            continue
        if words[1].lower() not in stages:
            found.append(words[1])
        if len(words) >= _WITH_STAGE:
            stages.add(words[3].lower())
    return tuple(dict.fromkeys(found))
