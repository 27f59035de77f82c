"""Projects in real git repositories, and releases of them as a run stages them, for tests."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from builders.model import Mount, SourceTree
from orchestrator import config, provenance, survey
from orchestrator.manifest import Document, DocumentKind, StagedArtifact
from orchestrator.model import BuildReport, CacheState, Matrix, Plan, PlannedCell, StagedRelease
from orchestrator.run import RunRules, Stop, run_plan
from orchestrator.source_archive import CommitSource, NoSource, opened_source
from orchestrator.stage import stage
from tests.fakes import FakeBuilder, make_cell

COMMIT_TIME = 1_600_000_000
VERSION = "1.2.3"
MATRIX = """
[project]
name = "hello"
version = "git"
{project}
[products.hello]
source = "{source}"
recipe = "command"
run = "make"
outputs = ["hello"]
targets = ["x86_64"]
{product}
"""


def git(folder: Path, *arguments: str) -> str:
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_DATE": f"{COMMIT_TIME} +0000", "GIT_COMMITTER_DATE": f"{COMMIT_TIME} +0000",
        **{f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }  # fmt: skip
    done = subprocess.run(("git", *arguments), cwd=folder, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@dataclass(frozen=True)
class Committed:
    """A project whose folder is a git work tree, or lies in one."""

    root: Path
    config: str = "matrix.toml"

    @property
    def dist(self) -> Path:
        return self.root / "dist"

    @property
    def matrix(self) -> Matrix:
        return config.load(self.root / self.config)

    def commit(self) -> str:
        git(self.root, "add", "--all", ".")
        git(self.root, "commit", "-q", "--allow-empty", "-m", "change")
        git(self.root, "tag", "-f", f"v{VERSION}")
        return git(self.root, "rev-parse", "HEAD")

    def report(self) -> BuildReport:
        """Build the project's cell with the fake builder, from the sources as they lie there."""
        matrix, state = self.matrix, survey.checkout_state(self.root)
        (product,) = matrix.products
        trees = survey.read_sources(matrix, [product], self.dist / "cache", lambda _: None)
        cell = make_cell(
            source=trees["hello"], mounts=survey.read_mounts(matrix, product), outputs=product.outputs,
            recipe=product.recipe, version=VERSION, epoch=COMMIT_TIME,
        )  # fmt: skip
        planned = (PlannedCell(cell=cell, cache=CacheState.MISS, estimate_s=None),)
        plan = Plan(project="hello", version=VERSION, commit=state.commit, dirty=state.dirty, epoch=COMMIT_TIME,
                    engine="docker", engine_reason="test", cells=planned)  # fmt: skip
        return run_plan(
            plan, builders={"fake": FakeBuilder()}, dist=self.dist, rules=RunRules(policy=matrix.policy),
            observer=lambda _: None, stop=Stop(),
        )  # fmt: skip

    def release(self, remote: str = "") -> StagedRelease:
        """Stage a release with provenance and whatever source archive there can be."""
        matrix, report = self.matrix, self.report()
        context = provenance.ProvenanceContext(plan=report.plan, matrix=matrix, remote=remote)

        def describe(staged: StagedArtifact, _: object) -> tuple[Document, ...]:
            content = provenance.statement(staged.artifact, staged.built, context, staged.packed.files)
            return (Document.about(staged.artifact, DocumentKind.PROVENANCE, content),)

        with opened_source(matrix, report, self.dist) as source:
            taken = source if isinstance(source, CommitSource) else None
            return stage(report, matrix, self.dist, describe, taken)

    def source(self) -> CommitSource | NoSource:
        """Give what the commit holds; the files are gone again."""
        with opened_source(self.matrix, self.report(), self.dist) as source:
            return source


def make_project(folder: Path, *, source: str = "src", project: str = "", product: str = "") -> Committed:
    """Write a project with every sort of file that git knows, and commit it under a tag."""
    (folder / "src" / "deep").mkdir(parents=True)
    (folder / "src" / "hello.c").write_text("int main(void) { return 0; }\n", encoding="utf-8")
    (folder / "src" / "deep" / "ü b").write_bytes(b"\0\xff")
    (folder / "src" / "again.c").symlink_to("hello.c")
    (folder / "build.sh").write_text("#!/bin/sh\n", encoding="utf-8")
    (folder / "build.sh").chmod(0o755)
    (folder / ".gitignore").write_text("*.o\n/dist/\n", encoding="utf-8")
    (folder / "src" / "wanted.o").write_bytes(b"tracked, whatever .gitignore says")
    (folder / "matrix.toml").write_text(
        MATRIX.format(source=source, project=project, product=product), encoding="utf-8"
    )
    git(folder, "init", "-q")
    git(folder, "add", "--force", "src/wanted.o")
    made = Committed(folder)
    made.commit()
    (folder / "src" / "ignored.o").write_bytes(b"of an earlier build")
    return made


def tree_of(project: Committed) -> SourceTree:
    return survey.read_sources(project.matrix, project.matrix.products, project.dist / "cache", lambda _: None)["hello"]


def mounts_of(project: Committed) -> tuple[Mount, ...]:
    return survey.read_mounts(project.matrix, project.matrix.products[0])


def without_source(release: StagedRelease) -> PurePosixPath:
    """Take the source archive out of a release's folder, and give its name."""
    (source,) = (each.path for each in release.artifacts if not each.target)
    (release.folder / source).unlink()
    return source
