"""Whether two cells would give archives of one name."""

from collections.abc import Iterable

from builders.targets import Target
from orchestrator.config.problems import Draft
from orchestrator.config.targeting import TargetTable
from orchestrator.model import ArchiveRules, Product, Project

_ANY_VERSION = "VERSION"


def collisions(project: Project, products: Iterable[Product], table: TargetTable) -> Iterable[Draft]:
    """Give a draft for each product whose archive would have the name of an earlier one."""
    owners: dict[str, str] = {}
    for product in products:
        for name, target in _names(project, product, table):
            cell = f"{product.name}/{target}"
            owner = owners.setdefault(name, cell)
            if owner != cell:
                what = f"the archives of {owner} and {cell} would both be named {name}"
                hint = "put {product} and {target} into archive.name"
                yield Draft(path=("products", product.name, "archive", "name"), what=what, suggestion=hint)
                break


def _names(project: Project, product: Product, table: TargetTable) -> Iterable[tuple[str, str]]:
    if product.archive is None:
        return
    for name in product.targets:
        if target := table.rows.get(name):
            yield _file_name(project, product.name, product.archive, target), target.name


def _file_name(project: Project, product: str, rules: ArchiveRules, target: Target) -> str:
    version = project.version if isinstance(project.version, str) else _ANY_VERSION
    stem = rules.stem(project=project.name, product=product, version=version, target=target)
    return f"{stem}.{rules.format_for(target)}"
