"""Joins the rooms of publication: which repository, whose keys count for it, who publishes there."""

import getpass
import hashlib
import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from builders.names import escaped
from orchestrator import __version__
from orchestrator.cli import places, wire
from orchestrator.errors import KeyRefused, PublicationError, RepositoryError, TrustInvalid
from orchestrator.events import Event, Note
from orchestrator.model import Matrix
from orchestrator.publication import IndexKeys
from orchestrator.publish.desk import STAGES, Terms
from orchestrator.publish.index_keys import RepositoryTrust, open_keys
from orchestrator.publish.lifecycle import Office, Order
from orchestrator.publishing.request import Press
from orchestrator.publishing_rules import PolicyMode, PublishingRules
from orchestrator.repositories import open_repository
from orchestrator.repositories.interface import Repository
from orchestrator.signing.openers import open_signers
from orchestrator.signing.passphrase import Passphrases
from orchestrator.signing.private_file import refuse_bad_file
from orchestrator.signing_rules import PassphraseFrom, PassphraseSource, SignerKind, SignerRules, SigningRules
from orchestrator.verify import load_trust
from orchestrator.verify.trust_root import TrustRoot

JOURNAL: Final = "publication-journal.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """What the command line says of who changes a repository; nothing said means the configuration."""

    key: Path | None = None
    key_passphrase: str | None = None
    audit_key: Path | None = None
    audit_passphrase: str | None = None
    repository_id: str = ""
    actor: str = ""
    journal: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """What it takes to read a repository: no private key."""

    repository: Repository
    trust: TrustRoot
    memory: Path

    def index_trust(self) -> RepositoryTrust:
        return RepositoryTrust(trust=self.trust, now=now())


@dataclass(frozen=True, slots=True, kw_only=True)
class Publisher:
    """What it takes to change a repository. Keys are read when `open_keys` is called."""

    rules: PublishingRules
    signer: SignerRules
    trust: TrustRoot
    passphrases: Passphrases
    repository: Repository
    terms: Terms
    journal: Path

    def open_keys(self) -> IndexKeys:
        one = SigningRules(signers=(self.signer,), trust=Path())
        signer = open_signers(one, None, self.passphrases)[0]

        def secret() -> bytes | None:
            return self.passphrases.get(self.rules.audit_passphrase, f"the audit key {self.rules.audit_key}")

        return open_keys(signer, self.rules.audit_key, secret)

    def press(self, observer: Callable[[Event], None]) -> Press:
        return Press(
            repository=self.repository, trust=self.trust, open_keys=self.open_keys, terms=self.terms,
            observer=observer, now=now, journal=self.journal,
        )  # fmt: skip

    def office(self) -> Office:
        trust = RepositoryTrust(trust=self.trust, now=now())
        return Office(repository=self.repository, keys=self.open_keys(), trust=trust)

    def order(self, reason: str, expires: datetime | None = None) -> Order:
        return Order(
            actor=self.terms.actor, now=now(), expires=expires or now() + self.terms.valid_for, reason=reason,
            repository_id=self.terms.repository_id,
        )  # fmt: skip


def open_reader(
    place: places.Place, config: Path | None, trust: TrustRoot | Path | None, memory: Path | None
) -> Reader:
    """Join what a reader needs. Raises PublicationError where no repository is named, TrustInvalid."""
    matrix = None if place.named and trust is not None else wire.find_matrix(config)
    root = trust if isinstance(trust, TrustRoot) else load_trust(_trust_place(trust, matrix))
    return Reader(
        repository=open_repository(places.rules_of(place, matrix)), trust=root, memory=memory or _usual_memory()
    )


def open_publisher(
    place: places.Place, owner: Owner, matrix: Matrix | None, trust: Path | None, passphrases: Passphrases
) -> Publisher:  # fmt: skip
    """Join what an owner needs; no key is read. Raises PublicationError where something is not named."""
    root = load_trust(_trust_place(trust, matrix))
    rules = _rules(place, owner, matrix, root.project)
    journal = owner.journal or (matrix.root if matrix else Path.cwd()) / "dist" / JOURNAL
    return Publisher(
        rules=rules, signer=_signer(owner, matrix), trust=root, passphrases=passphrases,
        repository=open_repository(rules.repository), terms=_terms(rules, owner.actor), journal=journal,
    )  # fmt: skip


def take_passphrases(matrix: Matrix | None, owner: Owner) -> Passphrases:
    """Take every passphrase out of the environment, before any child can inherit one."""
    passphrases = wire.take_passphrases(
        matrix.signing if matrix else None, matrix.repository if matrix else None, matrix.ci.checks if matrix else None
    )
    for name in (owner.key_passphrase, owner.audit_passphrase):
        wire.take_variable(passphrases, _by_environment(name))
    return passphrases


def check_ready(publisher: Publisher) -> None:
    """Refuse, before anything is built, an audit key or a repository that would refuse the release. Reads no key."""
    from orchestrator.publish.pointer import KnownIndex  # noqa: PLC0415 - only a whole release looks ahead

    key = publisher.rules.audit_key
    if not key.exists():
        raise KeyRefused(
            f"the audit key {key} is missing",
            next_step=f"relbuild keys generate --kind audit --out {key}; then `relbuild keys rotate --add` its .pub",
        )
    refuse_bad_file(key)
    _refuse_read_only(publisher.rules.repository.path)
    KnownIndex(publisher.repository, RepositoryTrust(trust=publisher.trust, now=now())).read()


def _refuse_read_only(path: Path | None) -> None:
    """Raise RepositoryError for a folder that nobody can write to, or that cannot be made."""
    if path is None:
        return
    there = next(place for place in (path, *path.parents) if place.exists())
    # The kernel says no for a read-only file system, too, and to root.
    if not os.access(there, os.W_OK):
        raise RepositoryError(f"the repository {path} cannot be written: {there} is read-only, or another user's",
                              next_step="make it writable, or name another folder in [repository]")  # fmt: skip


def required_targets(matrix: Matrix | None) -> frozenset[str]:
    """Name the targets without which a release of the configuration is not whole."""
    wanted = {target for product in matrix.products for target in product.targets} if matrix else set()
    return frozenset(wanted) - (matrix.best_effort if matrix else frozenset())


def say(verbose: bool) -> Callable[[Event], None]:
    """Give what shows notes on standard error; the names of stages only if asked for."""

    last = ""

    def watch(event: Event) -> None:
        nonlocal last
        if isinstance(event, Note) and event.text != last and (verbose or event.text not in STAGES):
            last = event.text
            print(event.text, file=sys.stderr)

    return watch


def now() -> datetime:
    """Give the time, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


# --- what was said, and what the configuration says ---------------------------------------------------------------


def _rules(place: places.Place, owner: Owner, matrix: Matrix | None, project: str) -> PublishingRules:
    configured = matrix.repository if matrix else None
    repository = places.rules_of(place, matrix)
    audit_key = owner.audit_key or (configured.audit_key if configured else None)
    if audit_key is None:
        raise PublicationError(
            "no key is named that signs audits",
            next_step="give --audit-key, or audit_key in [repository]; `relbuild keys generate --kind audit` makes one",
        )
    rules = configured or PublishingRules(repository=repository, audit_key=audit_key, repository_id=project)
    if owner.audit_key:
        secret = _by_environment(owner.audit_passphrase)
        rules = replace(rules, audit_key=owner.audit_key, audit_passphrase=secret)
    return replace(rules, repository=repository, repository_id=owner.repository_id or rules.repository_id)


def _signer(owner: Owner, matrix: Matrix | None) -> SignerRules:
    if owner.key is not None:
        return key_signer(owner.key, owner.key_passphrase)
    signers: Sequence[SignerRules] = matrix.signing.signers if matrix and matrix.signing else ()
    for signer in signers:
        # GPG makes no Sigstore bundles, which an index is signed by.
        if signer.kind is not SignerKind.GPG:
            return signer
    raise PublicationError(
        "no key is named that signs the index", next_step="give --key, or a signer other than gpg in [signing]"
    )


def key_signer(key: Path, passphrase_env: str | None) -> SignerRules:
    """Give the rules of a signer that the command line names by its key file."""
    return SignerRules(kind=SignerKind.KEY_FILE, key=str(key), passphrase=_by_environment(passphrase_env))


def _trust_place(trust: Path | None, matrix: Matrix | None) -> Path:
    if trust is not None:
        return trust
    if matrix is None or matrix.signing is None:
        what = f"{matrix.file} names no trust file" if matrix else "no trust file is named"
        raise TrustInvalid(what, next_step="give --trust FILE, or [signing] trust")
    return matrix.signing.trust


def _by_environment(name: str | None) -> PassphraseSource:
    return PassphraseSource(kind=PassphraseFrom.ENV, where=name) if name else PassphraseSource()


def _terms(rules: PublishingRules, actor: str) -> Terms:
    return Terms(
        actor=actor or _login(), repository_id=rules.repository_id, valid_for=timedelta(days=rules.valid_days),
        repository_type=rules.repository.kind.value, policy_mode=rules.mode or PolicyMode.STRICT,
        timestamped=rules.timestamped_versions, machine_id=_machine(),
        tools={"relbuild": __version__, "python": platform.python_version()},
    )  # fmt: skip


def _login() -> str:
    try:
        return escaped(getpass.getuser())[1:-1]
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _machine() -> str:
    """Tell machines apart without telling which: the machine's own id is not for others."""
    try:
        found = Path("/etc/machine-id").read_bytes().strip()
    except OSError:
        return ""
    return hashlib.sha256(b"relbuild audit " + found).hexdigest()[:32] if found else ""


def _usual_memory() -> Path:
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home and Path(home).is_absolute() else Path.home() / ".local" / "state") / "relbuild" / "seen"
