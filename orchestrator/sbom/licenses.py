"""Words licences as SPDX does where that is sure, and as a named licence of its own where it is not.

Sources: SPDX specification 2.3 annex D (expressions), Debian's DEP-5 (short names).
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

NO_ASSERTION: Final = "NOASSERTION"

_KNOWN: Final = frozenset(
    """
    0BSD AFL-2.1 AFL-3.0 AGPL-3.0-only AGPL-3.0-or-later Apache-1.1 Apache-2.0 Artistic-1.0 Artistic-2.0 BSD-1-Clause
    BSD-2-Clause BSD-3-Clause BSD-4-Clause BSL-1.0 BlueOak-1.0.0 bzip2-1.0.6 CC0-1.0 CC-BY-3.0 CC-BY-4.0 CC-BY-SA-3.0
    CC-BY-SA-4.0 CDDL-1.0 CDDL-1.1 CPL-1.0 curl ECL-2.0 EPL-1.0 EPL-2.0 EUPL-1.1 EUPL-1.2 FSFAP FTL GFDL-1.2-only
    GFDL-1.2-or-later GFDL-1.3-only GFDL-1.3-or-later GPL-1.0-only GPL-1.0-or-later GPL-2.0-only GPL-2.0-or-later
    GPL-3.0-only GPL-3.0-or-later HPND IJG ISC LGPL-2.0-only LGPL-2.0-or-later LGPL-2.1-only LGPL-2.1-or-later
    LGPL-3.0-only LGPL-3.0-or-later LPPL-1.3c Libpng MIT MIT-0 MPL-1.1 MPL-2.0 MS-PL NCSA OFL-1.1 OpenSSL PHP-3.01
    PostgreSQL PSF-2.0 Python-2.0 Ruby SGI-B-2.0 Sleepycat TCL Unicode-3.0 Unlicense UPL-1.0 Vim W3C WTFPL X11 Zlib
    ZPL-2.1
    """.split()  # noqa: SIM905 - a list of a hundred strings reads worse
)
_EXCEPTIONS: Final = frozenset(
    {"Autoconf-exception-3.0", "Classpath-exception-2.0", "GCC-exception-3.1", "LLVM-exception", "OpenSSL-exception"}
)
_DEBIAN: Final = {
    "apache": "Apache-2.0", "apache-2": "Apache-2.0", "artistic": "Artistic-1.0", "artistic-2": "Artistic-2.0",
    "bsd-2-clause": "BSD-2-Clause", "bsd-3-clause": "BSD-3-Clause", "bsd-4-clause": "BSD-4-Clause", "cc0": "CC0-1.0",
    "expat": "MIT", "gpl-1": "GPL-1.0-only", "gpl-1+": "GPL-1.0-or-later", "gpl-2": "GPL-2.0-only",
    "gpl-2+": "GPL-2.0-or-later", "gpl-3": "GPL-3.0-only", "gpl-3+": "GPL-3.0-or-later", "lgpl-2": "LGPL-2.0-only",
    "lgpl-2+": "LGPL-2.0-or-later", "lgpl-2.1": "LGPL-2.1-only", "lgpl-2.1+": "LGPL-2.1-or-later",
    "lgpl-3": "LGPL-3.0-only", "lgpl-3+": "LGPL-3.0-or-later", "mpl-1.1": "MPL-1.1", "mpl-2": "MPL-2.0",
    "zlib": "Zlib", "zpl-2.1": "ZPL-2.1",
}  # fmt: skip
"""DEP-5's short names, in lower case and without a version's ".0", that mean one SPDX licence."""

_TOKEN: Final = re.compile(r"\(|\)|[A-Za-z0-9.+:-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class License:
    """A licence: an SPDX expression, or else the text that somebody named it by. Both empty where nobody did."""

    expression: str = ""
    name: str = ""

    @property
    def spdx(self) -> str:
        """How SPDX refers to it; a text that is no expression by a reference that its name alone decides."""
        if self.expression:
            return self.expression
        return f"LicenseRef-relbuild-{_digits(self.name)}" if self.name else NO_ASSERTION


def read(text: str) -> License:
    """Read a licence as a project or a Debian package names it."""
    plain = " ".join(text.split())
    expression = _expression(plain)
    return License(expression=expression) if expression else License(name=plain)


def of_package(expressions: Iterable[str], others: Iterable[str]) -> tuple[License, ...]:
    """Give the licences of a package, those that Syft read as SPDX expressions and those that it could not read."""
    return (*(License(expression=one) for one in expressions), *(License(name=" ".join(one.split())) for one in others))


def joined(licenses: Iterable[License]) -> str:
    """Give what SPDX calls the declared licence of something under all of these."""
    said = [one.spdx for one in licenses]
    if len(said) < 2:  # noqa: PLR2004
        return said[0] if said else NO_ASSERTION
    return " AND ".join(f"({one})" if " " in one else one for one in said)


def _expression(text: str) -> str:
    """Give the SPDX expression that a text is; empty where it is none, or names a licence that is not on the list."""
    debian = re.sub(r"(?<=\s)(or|and)(?=\s)", lambda word: word[0].upper(), text)
    words = [_DEBIAN.get(word.lower().replace(".0", ""), word) for word in _TOKEN.findall(debian)]
    if "".join(_TOKEN.findall(debian)) != debian.replace(" ", ""):
        return ""
    return " ".join(words).replace("( ", "(").replace(" )", ")") if _holds(words) else ""


def _holds(words: list[str]) -> bool:
    """Check simple-expression, WITH, AND, OR and brackets (annex D), each word in its place."""
    depth, wants_operand, after_with = 0, True, False
    for word in words:
        if after_with:
            if word not in _EXCEPTIONS:
                return False
            wants_operand = after_with = False
        elif wants_operand and word == "(":
            depth += 1
        elif wants_operand:
            if word not in _KNOWN:
                return False
            wants_operand = False
        elif word == ")":
            depth -= 1
            if depth < 0:
                return False
        elif word in {"AND", "OR", "WITH"}:
            wants_operand, after_with = True, word == "WITH"
        else:
            return False
    return depth == 0 and not wants_operand and bool(words)


def _digits(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]
