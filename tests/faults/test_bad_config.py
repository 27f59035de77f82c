"""Bad matrix.toml files of every kind: each gives its own error, with the line and words that help."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest

from builders.model import CommandRecipe
from orchestrator import config
from orchestrator.errors import ConfigError, ConfigInvalid, ConfigNotFound, ConfigSyntax

pytestmark = pytest.mark.timeout(30)

BASE = """\
[project]
name = "demo"
[products.hello]
recipe = "command"
run = "make"
outputs = ["hello"]
"""
GO = '[project]\nname = "x"\n[products.p]\nrecipe = "go"\n'
DOCKERFILE = '[project]\nname = "x"\n[products.p]\nrecipe = "dockerfile"\noutputs = ["x"]\n'
SHA256 = "a" * 64
NEXT = 7
"""The line after BASE."""


def write(folder: Path, text: str | bytes) -> Path:
    file = folder / "matrix.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


@dataclass(frozen=True)
class Bad:
    """A text that is no TOML; `line` is where the message must point."""

    name: str
    text: str | bytes
    line: int
    words: str


SYNTAX = (
    Bad("byte order mark", b"\xef\xbb\xbf" + BASE.encode(), 1, "byte order mark"),
    Bad("utf-16", BASE.encode("utf-16"), 1, "UTF-16"),
    Bad("utf-16 without mark", BASE.encode("utf-16-le"), 1, "NUL"),
    Bad("nul", BASE.encode() + b'license = "a\0b"\n', NEXT, "NUL"),
    Bad("latin-1", BASE.encode() + b"# caf\xe9\n", NEXT, "not UTF-8"),
    Bad("no equals sign", BASE + "network\n", NEXT, "Expected '='"),
    Bad("no value", BASE + "network = \n", NEXT, "Invalid value"),
    Bad("bare word", BASE + "libc = musl\n", NEXT, "Invalid value"),
    Bad("curly quotes", BASE + "libc = “musl”\n", NEXT, "Invalid value"),
    Bad("bad escape", BASE + 'libc = "\\q"\n', NEXT, "escape"),
    Bad("lone surrogate", BASE + 'libc = "\\ud800"\n', NEXT, "Unicode scalar"),
    Bad("control character", BASE + 'libc = "a\x07b"\n', NEXT, "Illegal character"),
    Bad("string over a line end", BASE + 'libc = "musl\n', NEXT, "Illegal character"),
    Bad("long string never ended", BASE + 'env = { A = """x\n\n\n', NEXT, "Unterminated"),
    Bad("array never ended", BASE + 'smoke = [\n { run = ["a"] },\n', NEXT, "never closed"),
    Bad("header never ended", BASE + "[engine\n", NEXT, "Expected ']'"),
    Bad("key twice", BASE + 'run = "other"\n', NEXT, "Cannot overwrite"),
    Bad("table twice", BASE + "[project]\n", NEXT, "Cannot declare"),
    Bad("key twice in an inline table", BASE + "env = { A = 'x', A = 'y' }\n", NEXT, "Duplicate"),
    Bad("carriage return", BASE.encode() + b"# a\rb\n", NEXT, "character"),
    Bad("huge number", BASE + f"timeout_s = {'9' * 5000}\n", NEXT, "1000 characters"),
    Bad("key of many parts", BASE + ".".join("a" * 40_000) + " = 1\n", NEXT, "16 parts"),
    Bad("quoted key of many parts", BASE + " . ".join(["''"] * 20_000) + " = 1\n", NEXT, "16 parts"),
    Bad("header of many parts", BASE + "[" + ".".join("a" * 100_000) + "]\n", NEXT, "16 parts"),
    Bad("brackets without end", BASE + "x = " + "[" * 200_000, NEXT, "nested more than 16"),
    Bad("braces without end", BASE + "x = " + "{a=" * 60_000, NEXT, "nested more than 16"),
    Bad("numberless elements", BASE + "x = [\n" + "1,\n" * 60_000 + "]", 9_995, "more than 20000"),
    Bad("not toml at all", "<?xml version='1.0'?>\n", 1, "Invalid"),
)


@pytest.mark.fault(71)
@pytest.mark.parametrize("bad", SYNTAX, ids=lambda bad: bad.name)
def test_what_is_not_toml_is_refused_with_its_line(bad: Bad, tmp_path: Path) -> None:
    file = write(tmp_path, bad.text)
    with pytest.raises(ConfigSyntax) as caught:
        config.load(file)
    assert caught.value.what.startswith(f"{file}:{bad.line}: ")
    assert bad.words in caught.value.what
    assert caught.value.next_step
    assert caught.value.exit_code == 12


def in_product(name: str, line: str, words: str) -> Bad:
    return Bad(name, BASE + line + "\n", NEXT, words)


def in_place_of(name: str, old: str, new: str, words: str) -> Bad:
    text = BASE.replace(old, new, 1)
    assert text != BASE
    return Bad(name, text, BASE[: BASE.index(old)].count("\n") + 1, words)


RULES = (
    # [project]
    Bad("empty", "", 1, "the table [project] is missing"),
    Bad("no product", '[project]\nname = "x"\n', 1, "there is no product"),
    Bad("empty products", '[project]\nname = "x"\n[products]\n', 3, "there is no product"),
    Bad("no name", BASE.replace('name = "demo"', 'license = "MIT"'), 1, "project.name: this key is missing"),
    in_place_of("name is a path", '"demo"', '"../demo"', "is not a name"),
    in_place_of("name too long", '"demo"', f'"{"a" * 65}"', "is not a name"),
    in_place_of("name with a line end", '"demo"', '"demo\\n"', "U+000A"),
    in_place_of("name with a bidi override", '"demo"', '"de\u202emo"', "U+202E"),
    in_place_of("name is a number", '"demo"', "7", "it must be a string, not a whole number"),
    in_place_of("name is a date", '"demo"', "2024-01-01", "it must be a string, not a date or time"),
    Bad("version with a v", BASE.replace('"demo"', '"demo"\nversion = "v1.2.3"'), 3, 'did you mean "1.2.3"?'),
    Bad("version of two parts", BASE.replace('"demo"', '"demo"\nversion = "1.3"'), 3, 'did you mean "1.3.0"?'),
    Bad("version is a path", BASE.replace('"demo"', '"demo"\nversion = "1.0.0/../../x"'), 3, "Semantic Versioning"),
    Bad("version is a float", BASE.replace('"demo"', '"demo"\nversion = 1.3'), 3, "a string, or a table with file"),
    Bad("version file is outside", BASE.replace('"demo"', '"demo"\nversion = { file = "/etc/x", pattern = "(.)" }'), 3,
        "absolute"),
    Bad("version pattern is broken", BASE.replace('"demo"', '"demo"\nversion = { file = "x", pattern = "(" }'), 3,
        "is not a regular expression"),
    Bad("version pattern has no group", BASE.replace('"demo"', '"demo"\nversion = { file = "x", pattern = "x" }'), 3,
        "has no group"),
    Bad("homepage is no url", BASE.replace('"demo"', '"demo"\nhomepage = "javascript:x"'), 3, "is not a URL"),
    Bad("unknown key", BASE.replace('"demo"', '"demo"\nlicence = "MIT"'), 3, 'did you mean "license"?'),
    # tables
    Bad("unknown table", BASE + "[product.x]\n", NEXT, 'did you mean "products"?'),
    Bad("later table", BASE + "[channels]\nkey = 'x'\n", NEXT, "there is no table 'channels'"),
    Bad("no trust file", BASE + "[signing]\nsigners = [{ key_file = 'k' }]\n", NEXT, "signing.trust: this key is mis"),
    Bad("no signers", BASE + "[signing]\ntrust = 't'\nsigners = []\n", NEXT + 2, "the list is empty"),
    Bad("no such signer", BASE + "[signing]\ntrust = 't'\nsigners = [{ key = 'k' }]\n", NEXT + 2,
        "a table with one of key_file, gpg, kms, keyless"),
    Bad("only gpg", BASE + f"[signing]\ntrust = 't'\nsigners = [{{ gpg = '{'A' * 40}', home = 'g' }}]\n", NEXT + 2,
        "none of these signers can sign provenance"),
    Bad("short fingerprint", BASE + "[signing]\ntrust = 't'\nsigners = [{ gpg = 'AB', home = 'g' }]\n", NEXT + 2,
        "full GPG fingerprint"),
    Bad("a passphrase", BASE + "[signing]\ntrust = 't'\nsigners = [{ key_file = 'k', passphrase = 'x' }]\n", NEXT + 2,
        'write "env:NAME", "fd:NUMBER" or "prompt"'),
    Bad("no recipients", BASE + "[signing]\ntrust = 't'\nsigners = [{ key_file = 'k' }]\n"
        "encryption = { recipients = [] }\n", NEXT + 3, "the list is empty"),
    Bad("bad recipient", BASE + "[signing]\ntrust = 't'\nsigners = [{ key_file = 'k' }]\n"
        "encryption = { recipients = ['age1x'] }\n", NEXT + 3, "an age recipient"),
    Bad("no audit key", BASE + "[repository]\npath = 'r'\n", NEXT, "repository.audit_key: this key is missing"),
    Bad("no place", BASE + "[repository]\nkind = 's3'\naudit_key = 'k'\n", NEXT, "an S3 repository needs this key"),
    Bad("nobody signs", BASE + "[repository]\npath = 'r'\naudit_key = 'k'\n", NEXT, "there is no [signing]"),
    Bad("array of products", '[project]\nname = "x"\n[[products]]\nrecipe = "go"\n', 3,
        "it must be a table, not a list"),
    Bad("section is a string", BASE.replace("[project]", 'engine = "docker"\n[project]'), 1, "it must be a table"),
    Bad("engine kind", BASE + '[engine]\nkind = "dokcer"\n', NEXT + 1, 'did you mean "docker"?'),
    Bad("negative jobs", BASE + "[engine]\njobs = -1\n", NEXT + 1, "it must be at least 0"),
    Bad("jobs is true", BASE + "[engine]\njobs = true\n", NEXT + 1, "it must be a whole number, not true or false"),
    Bad("verdict", BASE + '[policy]\nleft_out = "warning"\n', NEXT + 1, 'did you mean "warn"?'),
    Bad("gate rule", BASE + '[policy.gate]\nrpaths = "warn"\n', NEXT + 1, 'did you mean "rpath"?'),
    # [targets]
    Bad("known target redefined", BASE + '[targets.arm64]\nos = "linux"\n', NEXT + 1, "only tier and floor"),
    Bad("target under two names", BASE + '[targets.arm64]\nfloor = "2.31"\n[targets.aarch64]\nfloor = "2.31"\n',
        NEXT + 2, "has a table already"),
    Bad("near target", BASE + '[targets.aarch46]\ntier = "best-effort"\n', NEXT, 'did you mean "aarch64"?'),
    Bad("tier", BASE + '[targets.arm64]\ntier = "best effort"\n', NEXT + 1, 'did you mean "best-effort"?'),
    Bad("node is not there yet", BASE + '[targets.arm64]\nnode = "ssh://x"\n', NEXT + 1, "there is no key 'node'"),
    Bad("floor", BASE + '[targets.arm64]\nfloor = "2"\n', NEXT + 1, "is not a libc version"),
    Bad("floor of a Mac", BASE + '[targets.darwin_arm64]\nfloor = "2.31"\n', NEXT + 1, "has no glibc"),
    Bad("alias of another", BASE + '[targets.riscv64]\nos="linux"\narch="riscv64"\nformat="elf"\nmachine=243\n'
        'aliases = ["rv", "arm64"]\n', NEXT + 5, "arm64 is the target aarch64 already"),
    # [products]
    Bad("product name", BASE + '[products."a b"]\nrecipe = "go"\n', NEXT, "is not a name"),
    Bad("product name is a path", BASE + '[products."../x"]\nrecipe = "go"\n', NEXT, "is not a name"),
    Bad("no recipe", BASE + "[products.x]\n", NEXT, "products.x.recipe: this key is missing"),
    in_place_of("near recipe", '"command"', '"comand"', 'did you mean "command"?'),
    Bad("no run", BASE.replace('run = "make"\n', ""), 3, 'recipe "command" needs this key'),
    Bad("no outputs", BASE.replace('outputs = ["hello"]\n', ""), 3, "products.hello.outputs"),
    in_place_of("empty script", '"make"', '"  "', "it is empty"),
    in_place_of("no commands", '"make"', "[]", "the list is empty"),
    in_place_of("empty command", '"make"', '[["make"], []]', "products.hello.run[1]: a command needs"),
    in_place_of("flat argv", '"make"', '["make", "all"]', "it must be a list, not a string"),
    in_place_of("NUL in a command", '"make"', '[["make", "a\\u0000"]]', "U+0000"),
    in_place_of("run is a table", '"make"', "{ x = 1 }", "one script, or a list of commands"),
    in_place_of("glob outside", '["hello"]', '["../hello"]', 'holds ".."'),
    in_place_of("absolute glob", '["hello"]', '["/hello"]', "is absolute"),
    in_place_of("empty glob", '["hello"]', '[""]', "the path is empty"),
    in_place_of("glob with a control character", '["hello"]', '["a\\u001bb"]', "U+001B"),
    in_place_of("glob of a folder", '["hello"]', '["bin/"]', 'did you mean "bin/**"?'),
    in_place_of("output key", '["hello"]', '[{ glob = "x", once = true }]', 'did you mean "one"?'),
    in_product("unknown key of a product", "tagrets = []", 'did you mean "targets"?'),
    in_product("stage of a command", 'stage = "x"', "takes no stage"),
    in_product("toolchain", 'toolchain = "gc"', 'did you mean "gcc"?'),
    in_product("image without digest", 'toolchain = "image:debian:12"', "has no digest"),
    in_product("image with a short digest", 'toolchain = "image:debian@sha256:abc"', "64 hexadecimal digits"),
    in_product("image that is an option", f'toolchain = "image:--privileged@sha256:{SHA256}"', "is not an image"),
    in_product("no targets", "targets = []", "the list is empty"),
    in_product("near target of a product", 'targets = ["x86-64"]', 'did you mean "x86_64"?'),
    in_product("target twice by alias", 'targets = ["arm64", "aarch64"]', "targets[1]: it is the target aarch64"),
    in_product("placement", 'placement = "qemu"', "is not one of auto, native"),
    in_product("source outside", 'source = "../other"', 'holds ".."'),
    in_product("absolute source", 'source = "/etc"', "is absolute"),
    in_product("missing source", 'source = "nowhere"', "there is no folder 'nowhere'"),
    in_product("source of no kind", 'source = { url = "x" }', "one of debian, pypi, git, archive"),
    in_product("source of two kinds", f'source = {{ pypi = "x", git = "y", version = "1", sha256 = "{SHA256}" }}',
               "there is no key 'git' here"),
    in_product("source without digest", 'source = { pypi = "x", version = "1" }', "sha256: this key is missing"),
    in_product("short digest", 'source = { pypi = "x", version = "1", sha256 = "abc" }', "is not a SHA-256"),
    in_product("short commit", 'source = { git = "https://host/x", commit = "abc123" }', "is not a full commit"),
    in_product("git option", f'source = {{ git = "--upload-pack=x", commit = "{"a" * 40}" }}', "is not a URL"),
    in_product("git helper", f'source = {{ git = "ext::sh -c x", commit = "{"a" * 40}" }}', "is not a URL"),
    in_product("password in a URL", f'source = {{ archive = "https://a:b@host/x", sha256 = "{SHA256}" }}', "password"),
    in_product("archive outside", f'source = {{ archive = "../x.tar", sha256 = "{SHA256}" }}', 'holds ".."'),
    in_product("debian package", f'source = {{ debian = "-x", version = "1", sha256 = "{SHA256}" }}', "Debian source"),
    in_product("env of the builder", 'env = { PATH = "/x" }', "the builder sets PATH itself"),
    in_product("name of a variable", 'env = { "A-B" = "x" }', "is not a variable's name"),
    in_product("value of a variable", "env = { A = 1 }", "it must be a string"),
    in_product("line end in a variable", 'env = { A = "a\\nb" }', "U+000A"),
    in_product("mount on the system", 'mounts = { "/usr/lib" = "." }', "would hide a part of the system"),
    in_product("mount on the output", 'mounts = { "/out/x" = "." }', "is the builder's own"),
    in_product("mount on the root", 'mounts = { "/" = "." }', "is not a plain absolute path"),
    in_product("mount with dots", 'mounts = { "/a/../usr" = "." }', "is not a plain absolute path"),
    in_product("relative mount", 'mounts = { "a" = "." }', "is not a plain absolute path"),
    in_product("mount of an outside folder", 'mounts = { "/a" = "/etc" }', "is absolute"),
    in_product("mount in a mount", 'mounts = { "/a" = ".", "/a/b" = "." }', "it lies inside the mount /a"),
    in_product("no time", "timeout_s = 0", "it must be more than 0"),
    in_product("endless time", "timeout_s = inf", "it must be at most 86400"),
    in_product("no number", "timeout_s = nan", "timeout_s"),
    in_product("network", 'network = "yes"', "it must be true or false, not a string"),
    in_product("no processors", "cpus = 0", "it must be more than 0"),
    in_product("unit of memory", 'memory = "2GB"', 'did you mean "2GiB"?'),
    in_product("little memory", "memory = 1024", "between 16 MiB"),
    in_product("smoke test without a command", "smoke = [{ exit = 0 }]", "smoke[0].run: this key is missing"),
    in_product("smoke test of the host", 'smoke = [{ run = ["/bin/sh"] }]', "is absolute"),
    in_product("exit code", 'smoke = [{ run = ["hello"], exit = 256 }]', "it must be at most 255"),
    in_product("libc", 'libc = "glibc"', "is not one of gnu, musl"),
    Bad("floor of musl", BASE + 'libc = "musl"\nglibc = "2.31"\n', NEXT + 1, 'goes with libc = "gnu"'),
    in_product("archive is true", "archive = true", "true is no choice here"),
    in_product("archive format", 'archive = { format = "tar.xz" }', "is not one of tar.gz, zip"),
    in_product("archive field", 'archive = { name = "{nam}" }', 'did you mean "name"?'),
    in_product("archive attribute", 'archive = { name = "{name.__class__}" }', "there is no field"),
    in_product("archive width", 'archive = { name = "{name:>99999999}" }', "there is no field"),
    in_product("archive in a folder", 'archive = { name = "a/{name}" }', "does not give a plain file name"),
    in_product("archive with an open brace", 'archive = { name = "{name}{" }', "does not give a plain file name"),
    in_product("extra outside", 'archive = { extra = ["../x"] }', 'holds ".."'),
    in_product("one archive for all targets", 'archive = { name = "{name}" }', "would both be named demo.tar.gz"),
    Bad("one archive for two products", BASE + 'archive = { name = "x_{arch}" }\n[products.b]\nrecipe = "go"\n'
        'archive = { name = "x_{arch}" }\n', NEXT + 3, "hello/x86_64 and b/x86_64 would both be named x_x86_64.tar.gz"),
    Bad("dockerfile with a command", DOCKERFILE + 'run = "x"\n', 6, "takes no run"),
    Bad("dockerfile outside", DOCKERFILE + 'dockerfile = "../D"\n', 6, 'holds ".."'),
    Bad("dockerfile for a Mac", DOCKERFILE + 'targets = ["darwin_arm64"]\n', 6, "cannot build for aarch64-macos"),
    Bad("toolchain of go", GO + 'toolchain = "go"', 5, "takes no toolchain"),
)  # fmt: skip


@pytest.mark.fault(71, 84)
@pytest.mark.parametrize("bad", RULES, ids=lambda bad: bad.name)
def test_what_breaks_a_rule_is_refused_with_its_line(bad: Bad, tmp_path: Path) -> None:
    file = write(tmp_path, bad.text)
    with pytest.raises(ConfigInvalid) as caught:
        config.load(file)
    shown = [str(problem) for problem in caught.value.problems if problem.line == bad.line]
    assert any(bad.words in text for text in shown), str(caught.value)
    assert {problem.file for problem in caught.value.problems} == {str(file)}
    assert caught.value.exit_code == 13


def test_names_are_unique() -> None:
    for table in (SYNTAX, RULES):
        names = [bad.name for bad in table]
        assert len(set(names)) == len(names)


# --- what is no file ------------------------------------------------------------------------------------------------


def test_a_fifo_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "matrix.toml")
    with pytest.raises(ConfigNotFound, match="is a FIFO"):
        config.load(tmp_path / "matrix.toml")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigNotFound, match="is a folder"):
        config.load(tmp_path)


def test_a_device_is_refused() -> None:
    with pytest.raises(ConfigNotFound, match="is a device"):
        config.load(Path("/dev/zero"))


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("matrix.toml")
        with pytest.raises(ConfigNotFound, match="is a socket"):
            config.load(Path("matrix.toml"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigNotFound, match="No such file"):
        config.load(tmp_path / "matrix.toml")


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "matrix.toml").symlink_to("matrix.toml")
    with pytest.raises(ConfigNotFound, match="symbolic links"):
        config.load(tmp_path / "matrix.toml")


def test_a_path_with_nul_is_refused() -> None:
    with pytest.raises(ConfigNotFound, match="null"):
        config.load(Path("matrix\0.toml"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path, BASE).chmod(0)
    with pytest.raises(ConfigNotFound, match="Permission denied"):
        config.load(tmp_path / "matrix.toml")


@pytest.mark.fault(71)
def test_a_large_file_is_refused_before_it_is_read_whole(tmp_path: Path) -> None:
    file = write(tmp_path, BASE)
    os.truncate(file, 1 << 40)
    with pytest.raises(ConfigSyntax, match="larger than 256 KiB"):
        config.load(file)


def test_a_source_that_links_out_of_the_project_is_refused(tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to("/etc")
    with pytest.raises(ConfigInvalid, match="leads out of the project"):
        config.load(write(tmp_path, BASE + 'source = "linked"\n'))


# --- large inputs ---------------------------------------------------------------------------------------------------

LARGE = {
    "unknown keys": GO + "".join(f"recip{n} = 1\n" for n in range(6000)),
    "unknown targets": GO + "targets = [" + '"x86-64",' * 9000 + "]\n",
    "misshapen smoke tests": GO + "smoke = [" + "{}," * 6000 + "]\n",
    "nested mounts": GO + "[products.p.mounts]\n" + "".join(f'"/a{n}/b" = "none{n}"\n' for n in range(6000)),
    "a long key": GO + f'"{"recipe" * 40_000}" = 1\n',
    "a long name": GO + f'targets = ["{"x86_64" * 40_000}"]\n',
    "a long template": GO + f'archive = {{ name = "{"{name}" * 40_000}" }}\n',
    "a long reference": GO + f'toolchain = "image:{"a-" * 2000}!@sha256:"\n',
    "bad products": GO + "".join(f"[products.p{n}]\n" for n in range(3900)),
}


@pytest.mark.fault(71)
@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", LARGE.values(), ids=LARGE)
def test_large_inputs_end_soon_and_do_not_drown_the_reader(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        config.load(write(tmp_path, text))
    assert len(caught.value.problems) <= 201
    assert max(len(str(problem)) for problem in caught.value.problems) < 1000


# --- text stays text ------------------------------------------------------------------------------------------------

INJECTIONS = ("$(touch hit)", "`touch hit`", "x; touch hit", "x && touch hit", "x | touch hit", "${IFS}x", "%s{0}")


@pytest.mark.fault(74)
@pytest.mark.parametrize("injection", INJECTIONS)
def test_shell_syntax_in_free_text_stays_text(injection: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    about = "".join(f'\n{key} = "{injection}"' for key in ("license", "description", "maintainer"))
    text = BASE.replace('"demo"', f'"demo"{about}')
    text = text.replace('"make"', f'[["make", "{injection}"]]').replace('["hello"]', f'["{injection}"]')
    text += f'env = {{ A = "{injection}" }}\nsmoke = [{{ run = ["hello", "{injection}"], stdout = "{injection}" }}]\n'
    matrix = config.load(write(tmp_path, text))
    product = matrix.products[0]
    said = {matrix.project.license, matrix.project.description, matrix.project.maintainer, product.env["A"]}
    said |= {product.outputs[0].glob, product.smoke[0].run[1], str(product.smoke[0].stdout)}
    assert said == {injection}
    assert product.recipe == CommandRecipe(toolchain="gcc", commands=(("make", injection),))
    assert [path.name for path in tmp_path.iterdir()] == ["matrix.toml"]


NAMED = (
    '[project]\nname = "INJECTED"\n[products.p]\nrecipe = "go"\n',
    '[project]\nname = "x"\nversion = "INJECTED"\n[products.p]\nrecipe = "go"\n',
    '[project]\nname = "x"\nhomepage = "INJECTED"\n[products.p]\nrecipe = "go"\n',
    '[project]\nname = "x"\n[products."INJECTED"]\nrecipe = "go"\n',
    '[project]\nname = "x"\n[targets."INJECTED"]\ntier = "required"\n[products.p]\nrecipe = "go"\n',
    GO + 'targets = ["INJECTED"]\n',
    GO + 'source = "INJECTED"\n',
    GO + f'source = {{ pypi = "INJECTED", version = "1", sha256 = "{SHA256}" }}\n',
    GO + f'source = {{ debian = "INJECTED", version = "1", sha256 = "{SHA256}" }}\n',
    GO + f'source = {{ git = "INJECTED", commit = "{"a" * 40}" }}\n',
    GO + 'archive = { name = "INJECTED" }\n',
    GO + 'env = { "INJECTED" = "x" }\n',
    GO + 'mounts = { "/INJECTED" = "." }\n',
    GO.replace('"go"', '"command"') + 'run = "x"\noutputs = ["x"]\ntoolchain = "INJECTED"\n',
    DOCKERFILE + 'stage = "INJECTED"\n',
)


@pytest.mark.fault(74)
@pytest.mark.parametrize("injection", INJECTIONS)
@pytest.mark.parametrize("template", NAMED)
def test_shell_syntax_in_names_is_refused_and_nothing_runs(
    template: str, injection: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError):
        config.load(write(tmp_path, template.replace("INJECTED", injection)))
    assert [path.name for path in tmp_path.iterdir()] == ["matrix.toml"]
