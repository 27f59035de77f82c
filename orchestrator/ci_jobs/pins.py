"""The actions that generated GitHub jobs use, each pinned by the commit of a release."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    name: str
    commit: str
    version: str

    @property
    def uses(self) -> str:
        return f"{self.name}@{self.commit}"


CHECKOUT = Action(name="actions/checkout", commit="11bd71901bbe5b1630ceea73d27597364c9af683", version="v4.2.2")
PYTHON = Action(name="actions/setup-python", commit="a26af69be951a213d495a4c3e4e4022e16d87065", version="v5.6.0")
UPLOAD = Action(name="actions/upload-artifact", commit="ea165f8d65b6e75b540449e92b4886f43607fa02", version="v4.6.2")
DOWNLOAD = Action(name="actions/download-artifact", commit="d3f86a106a0bac45b974a628896c90dbdf5c8093", version="v4.3.0")
ACTIONS = (CHECKOUT, PYTHON, UPLOAD, DOWNLOAD)
