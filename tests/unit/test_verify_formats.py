"""The forms of what strangers write: hostile JSON, bundles that are none, and garbage in every place."""

import base64
import contextlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.trust import VerificationResult
from orchestrator.verify import Expectations, judge_release, load_trust, verify_file
from orchestrator.verify.bundles import Envelope, parse_attestation, parse_bundle
from orchestrator.verify.json_strict import BadJson, parse, parse_canonical
from orchestrator.verify.packets import BadPacket, fingerprint_of, read_signature
from orchestrator.verify.results import from_json, to_json
from orchestrator.verify.sboms import refuse_other_sbom
from tests.unit.release_maker import (
    NOW,
    TARGETS,
    MadeRelease,
    canonical,
    drop,
    ecdsa_key,
    finish,
    line,
    make_release,
    put,
    write_trust,
)

KEY = ecdsa_key(1)
Change = Callable[[Any], object]


def errors_of(result: VerificationResult) -> set[str]:
    return {each.error for each in result.evidence if each.error}


def judge(release: MadeRelease) -> VerificationResult:
    trust = load_trust(write_trust(release.folder.parent / "trust.json", (KEY,)))
    return judge_release(release.folder, trust, Expectations(), NOW)[0]


# --- JSON --------------------------------------------------------------------------------------------------------

HOSTILE: dict[str, tuple[bytes, str]] = {
    "100,000 brackets": (b"[" * 100_000, "nested deeper"),
    "100,000 closed brackets": (b"[" * 100_000 + b"]" * 100_000, "nested deeper"),
    "100,000 objects": (b'{"a":' * 100_000, "nested deeper"),
    "brackets behind an escaped quote": (b'["\\"",' + b"[" * 100, "nested deeper"),
    "a million quotes in a string without end": (b'"' + b'\\"' * 1_000_000, "is not JSON"),
    "a key twice": (b'{"a":1,"a":2}', "'a' twice"),
    "a key twice, one escaped": (b'{"a":1,"\\u0061":2}', "'a' twice"),
    "a key twice, deep inside": (b'[{"b":{"a":1,"a":1}}]', "'a' twice"),
    "NaN": (b"[NaN]", "NaN"),
    "Infinity": (b"[-Infinity]", "-Infinity"),
    "a number beyond all": (b"[1e999]", "no computer can hold"),
    "a number of many digits": (b"[" + b"9" * 5000 + b"]", "5000 digits"),
    "2 to the 63": (b"[9223372036854775808]", "19 digits"),
    "half a surrogate pair": (b'["\\ud800"]', "surrogate"),
    "half a surrogate pair as a key": (b'{"\\udfff":1}', "surrogate"),
    "bytes behind": (b"{} {}", "is not JSON"),
    "a zero behind": (b"{}\0", "is not JSON"),
    "a comment": (b"{} // no", "is not JSON"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "byte order mark"),
    "UTF-16": ("{}".encode("utf-16"), "not UTF-8"),
    "no UTF-8": (b'["\xff"]', "not UTF-8"),
    "an overlong slash": (b'["\xc0\xaf"]', "not UTF-8"),
    "a line feed in a text": (b'["a\nb"]', "is not JSON"),
    "nothing": (b"", "is not JSON"),
    "5 MiB": (b'"' + b"a" * (5 << 20) + b'"', "larger than 4 MiB"),
}


@pytest.mark.fault(72)
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_json_is_refused(case: str) -> None:
    data, reason = HOSTILE[case]
    with pytest.raises(BadJson, match=reason):
        parse(data)


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20))  # fmt: skip
def test_plain_json_is_read_as_it_is(value: Any) -> None:
    try:
        written = canonical(value)
    except UnicodeEncodeError:
        return
    assert parse_canonical(written) == value


@pytest.mark.fault(72)
@pytest.mark.parametrize("name", ["manifest.json", "{0}.spdx.json", "{0}.cdx.json", "{0}.provenance.json",
                                  "{0}.intoto.jsonl", "manifest.json.sigstore.json"])  # fmt: skip
def test_hostile_json_in_a_release_is_refused_in_words(tmp_path: Path, name: str) -> None:
    release = make_release(tmp_path / "release", artifacts=1)
    trust = load_trust(write_trust(tmp_path / "trust.json", (KEY,)))
    for data, _ in HOSTILE.values():
        release.write(name.format(*release.artifacts), data)
        result, verified = judge_release(release.folder, trust, Expectations(), NOW)
        assert verified is None
        assert result.exit_code


# --- bundles -----------------------------------------------------------------------------------------------------


def reencoded(*path: str, suffix: str = "", keep: slice = slice(None)) -> Change:
    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = document[path[-1]][keep] + suffix

    return change


MATERIAL = "verificationMaterial"
BAD_MESSAGES: dict[str, tuple[Change, str]] = {
    "another media type": (put("mediaType", value="application/vnd.dev.sigstore.bundle+json;version=0.2"), "mediaType"),
    "no media type": (drop("mediaType"), "mediaType"),
    "an unknown field": (put("more", value=1), "'more'"),
    "an unknown field inside": (put("messageSignature", "keyid", value="x"), "'keyid'"),
    "an unknown field of the key": (put(MATERIAL, "publicKey", "rawBytes", value="x"), "'rawBytes'"),
    "a certificate chain": (put(MATERIAL, value={"x509CertificateChain": {"certificates": []}}), "certificate chain"),
    "a log entry": (put(MATERIAL, "tlogEntries", value=[{}]), "tlogEntries"),
    "no material": (drop(MATERIAL), MATERIAL),
    "no hint": (put(MATERIAL, "publicKey", value={}), "'hint'"),
    "a short hint": (put(MATERIAL, "publicKey", "hint", value="AAAA"), "3 bytes"),
    "no content": (drop("messageSignature"), "messageSignature or a dsseEnvelope"),
    "two contents": (lambda bundle: bundle.update(dsseEnvelope=KEY.attestation(b"{}")["dsseEnvelope"]), "not both"),
    "another digest algorithm": (put("messageSignature", "messageDigest", "algorithm", value="SHA2_512"), "SHA2_256"),
    "no digest": (drop("messageSignature", "messageDigest"), "messageDigest"),
    "base64 with a line feed": (reencoded("messageSignature", "signature", suffix="\n"), "base64"),
    "base64 for the web": (put("messageSignature", "signature", value="-_-_"), "base64"),
    "base64 with loose bits": (put("messageSignature", "signature", value="AB=="), "only form"),
    "base64 without padding": (put("messageSignature", "signature", value="AA"), "base64"),
    "a number": (put("messageSignature", "signature", value=1), "base64"),
}
BAD_ENVELOPES: dict[str, tuple[Change, str]] = {
    "two signatures": (lambda bundle: bundle["dsseEnvelope"]["signatures"].append({"sig": "AAAA"}),
                       "2 DSSE signatures"),
    "no signature": (put("dsseEnvelope", "signatures", value=[]), "0 DSSE signatures"),
    "a key id": (put("dsseEnvelope", "signatures", 0, "keyid", value="x"), "'keyid'"),
    "another payload type": (put("dsseEnvelope", "payloadType", value="text/plain"), "payloadType"),
    "no payload": (drop("dsseEnvelope", "payload"), "payload"),
}  # fmt: skip


@pytest.mark.fault(55, 56)
@pytest.mark.parametrize("case", BAD_MESSAGES)
def test_bad_bundles_are_refused(case: str) -> None:
    change, reason = BAD_MESSAGES[case]
    bundle = KEY.bundle(b"file")
    assert parse_bundle(line(bundle))
    change(bundle)
    with pytest.raises(BadJson, match=reason):
        parse_bundle(line(bundle))


@pytest.mark.fault(56)
@pytest.mark.parametrize("case", BAD_ENVELOPES)
def test_bad_attestations_are_refused(case: str) -> None:
    change, reason = BAD_ENVELOPES[case]
    bundle = KEY.attestation(b"{}")
    (read,) = parse_attestation(line(bundle) + b"\n")
    assert isinstance(read.content, Envelope)
    assert read.content.payload == b"{}"
    change(bundle)
    with pytest.raises(BadJson, match=reason):
        parse_attestation(line(bundle) + b"\n")


def test_a_bundle_is_written_in_known_forms_only() -> None:
    bundle = KEY.bundle(b"file")
    good = (line(bundle), json.dumps(bundle, separators=(", ", ":")).encode(), canonical(bundle))
    for data in good:
        parse_bundle(data)
    for data in (*(each + b" " for each in good), *(b" " + each for each in good), line(bundle) + b"\n",
                 canonical(bundle)[:-1], json.dumps(bundle, indent=3).encode(), line(bundle).replace(b"/", b"\\/"),
                 line(bundle) + line(bundle)):  # fmt: skip
        if data in good:
            continue
        with pytest.raises(BadJson):
            parse_bundle(data)
    attested = line(KEY.attestation(b"{}"))
    for data in (attested, attested + b"\n\n", b"\n" + attested + b"\n", attested + b"\r\n", b"", b"\n",
                 (attested + b"\n") * 33, line(bundle) + b"\n"):  # fmt: skip
        with pytest.raises(BadJson):
            parse_attestation(data)


def test_a_certificate_that_is_none_is_signed_by_nobody(tmp_path: Path) -> None:
    release = make_release(tmp_path / "release", artifacts=1)
    bundle = KEY.bundle(release.read("manifest.json"))
    bundle[MATERIAL] = {"certificate": {"rawBytes": base64.b64encode(b"no certificate").decode()},
                        "tlogEntries": [{"logIndex": "1"}]}  # fmt: skip
    release.write("manifest.json.sigstore.json", line(bundle))
    assert errors_of(judge(release)) == {"UntrustedKey"}


# --- garbage -----------------------------------------------------------------------------------------------------

GARBAGE = st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace"))
READERS: list[Callable[[bytes], object]] = [
    parse, parse_bundle, parse_attestation, read_signature, fingerprint_of, from_json,
    lambda data: refuse_other_sbom(data, "sbom-spdx", "", ""),
]  # fmt: skip


@given(data=GARBAGE, number=st.integers(0, len(READERS) - 1))
@settings(max_examples=400, deadline=None)
def test_readers_refuse_garbage_in_words(data: bytes, number: int) -> None:
    with contextlib.suppress(BadJson, BadPacket):
        READERS[number](data)


@given(data=GARBAGE)
@settings(max_examples=300, deadline=None)
def test_packets_refuse_garbage_in_good_armor(data: bytes) -> None:
    for kind, read in (("SIGNATURE", read_signature), ("PUBLIC KEY BLOCK", fingerprint_of)):
        coded = base64.b64encode(b"\xc2" + data).decode()
        lines = "".join(f"{coded[at : at + 64]}\n" for at in range(0, len(coded), 64))
        with pytest.raises(BadPacket):
            read(f"-----BEGIN PGP {kind}-----\n\n{lines}-----END PGP {kind}-----\n".encode())


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> MadeRelease:
    made = make_release(tmp_path_factory.mktemp("garbage") / "release", artifacts=1, each_artifact=True)
    made.attest("1.2.3.vsa.intoto.jsonl", b"{}\n")
    return made


SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3), max_leaves=8,
)  # fmt: skip


def replaced(document: Any, chance: Any, value: Any) -> Any:
    """Put a value somewhere into a document."""
    if isinstance(document, dict) and document and chance.random() < 0.8:
        key = chance.choice(sorted(document))
        return {**document, key: replaced(document[key], chance, value)}
    if isinstance(document, list) and document and chance.random() < 0.8:
        at = chance.randrange(len(document))
        return [*document[:at], replaced(document[at], chance, value), *document[at + 1 :]]
    return value


@given(data=st.data())
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_garbage_in_any_file_ends_in_a_traceback(release: MadeRelease, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(release.names()))
    content = release.read(name)
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    if document is not None and data.draw(st.booleans()):
        changed = replaced(document, data.draw(st.randoms(use_true_random=False)), data.draw(SHAPES))
        garbage = json.dumps(changed, sort_keys=True, indent=2).encode() + b"\n"
    else:
        garbage = data.draw(GARBAGE)
    trust = load_trust(write_trust(release.folder.parent / "trust.json", (KEY,)))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "r"
        place.mkdir()
        for each in release.names():
            (place / each).write_bytes(garbage if each == name else release.read(each))
        result, verified = judge_release(place, trust, Expectations(), NOW)
        assert verified is None
        assert result.exit_code
        verify_file(place / release.artifacts[0], trust, NOW)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_no_signed_garbage_ends_in_a_traceback(data: st.DataObject) -> None:
    """A key holder may sign anything; the reader takes it apart no less carefully."""
    with tempfile.TemporaryDirectory() as folder:
        release = make_release(Path(folder) / "release", artifacts=1)
        (artifact,) = release.artifacts
        ending = data.draw(st.sampled_from((".provenance.json", ".spdx.json", ".cdx.json", "manifest", ".vsa")))
        name = "manifest.json" if ending == "manifest" else f"{artifact}{ending.replace('.vsa', '.provenance.json')}"
        document = json.loads(release.read(name))
        changed = replaced(document, data.draw(st.randoms(use_true_random=False)), data.draw(SHAPES))
        content = json.dumps(changed, sort_keys=True, indent=2, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        if ending == ".vsa":
            release.attest("1.2.3.vsa.intoto.jsonl", content)
        else:
            release.write(name, content)
        if ending == "manifest":
            release.sign(name)
        elif ending != ".vsa":
            finish(release, dict(zip(release.artifacts, TARGETS, strict=False)))
        result = judge(release)
        assert from_json(to_json(result)) == result
