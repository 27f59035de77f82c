"""Gets passphrases from where the configuration says, each once, and keeps them away from children."""

import os
from collections.abc import Callable
from typing import Final, assert_never

from builders.names import escaped
from orchestrator.errors import PassphraseWrong
from orchestrator.trust import PassphraseFrom, PassphraseSource, SigningRules

Ask = Callable[[str], str]
"""Ask a person for a secret: takes the question, gives the answer."""

MAX_BYTES: Final = 64 << 10


class Passphrases:
    """What was read so far: a descriptor gives its bytes once, and a variable is gone from the environment then."""

    def __init__(self, ask: Ask | None) -> None:
        self._ask = ask
        self._read: dict[PassphraseSource, bytes] = {}

    def take_environment(self, rules: SigningRules) -> None:
        """Take every variable of the rules out of the environment, before any child can inherit it."""
        for signer in rules.signers:
            self.take(signer.passphrase)

    def take(self, source: PassphraseSource) -> None:
        """Take a variable out of the environment where it is there; who needs it says if it is not, or is empty."""
        if source.kind is PassphraseFrom.ENV and source not in self._read and source.where in os.environ:
            self._read[source] = os.environb.pop(os.fsencode(source.where))

    def get(self, source: PassphraseSource, what: str) -> bytes | None:
        """Give the passphrase of the thing named `what`, or None where the source is "none".

        Raises PassphraseWrong where there is none to be had.
        """
        match source.kind:
            case PassphraseFrom.NONE:
                return None
            case PassphraseFrom.ENV:
                secret = self._once(source, _from_environment)
            case PassphraseFrom.FD:
                secret = self._once(source, _from_descriptor)
            case PassphraseFrom.PROMPT:
                return self._asked(what)
            case _:
                assert_never(source.kind)
        if not secret:
            raise PassphraseWrong(f"{_place(source)}, where the passphrase of {what} should be, is empty",
                                  next_step="put the passphrase there, or mend `passphrase` in [signing]")  # fmt: skip
        return secret

    def _once(self, source: PassphraseSource, read: Callable[[PassphraseSource], bytes]) -> bytes:
        if source not in self._read:
            self._read[source] = read(source)
        return self._read[source]

    def _asked(self, what: str) -> bytes:
        if self._ask is None:
            raise PassphraseWrong(
                f"the passphrase of {what} is to be asked for, and nobody is here to answer",
                next_step="run in a terminal, or take it from a variable or a descriptor: `passphrase` in [signing]",
            )
        return self._ask(f"Passphrase of {what}: ").encode("utf-8", "surrogateescape")


def _from_environment(source: PassphraseSource) -> bytes:
    try:
        return os.environb.pop(os.fsencode(source.where))
    except KeyError:
        raise PassphraseWrong(
            f"{_place(source)}, where a passphrase should be, is not set", next_step="set it, or mend [signing]"
        ) from None


def _from_descriptor(source: PassphraseSource) -> bytes:
    data = b""
    try:
        descriptor = int(source.where)
        while len(data) <= MAX_BYTES and (chunk := os.read(descriptor, MAX_BYTES)):
            data += chunk
    except (ValueError, OverflowError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a number"
        raise PassphraseWrong(f"{_place(source)}, where a passphrase should be, cannot be read: {reason}",
                              next_step="open it for this program, such as 3< FILE") from None  # fmt: skip
    if len(data) > MAX_BYTES:
        raise PassphraseWrong(f"{_place(source)} holds more than {MAX_BYTES} bytes, which is no passphrase",
                              next_step="give the passphrase alone")  # fmt: skip
    return data.removesuffix(b"\n").removesuffix(b"\r")


def _place(source: PassphraseSource) -> str:
    kind = "the environment variable" if source.kind is PassphraseFrom.ENV else "the file descriptor"
    return f"{kind} {escaped(source.where)}"
