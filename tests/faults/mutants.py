"""Mechanisms of the commit, each with a text that removes it and the quick test that must notice."""

from dataclasses import dataclass

_T = "tests/unit/test_promote.py::"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A change of one text in one module, which must be there exactly once, and what catches it."""

    name: str
    module: str
    old: str
    new: str
    caught_by: str


def _mutant(name: str, module: str, old: str, new: str, caught_by: str) -> Mutant:
    return Mutant(name=name, module=f"orchestrator/publish/{module}.py", old=old, new=new, caught_by=_T + caught_by)


_OVERTAKEN = "test_overtaken_at_every_call"
_BY_A_CLAIM = f"{_OVERTAKEN}[other bytes, killed behind its claim-objects]"
_GOOD = "test_a_publish_is_acknowledged_listed_and_leaves_nothing"
_KILLED = "test_killed_at_every_step_and_inside_every_recovery"
_NEXT = "test_the_next_publish_finishes_what_was_claimed"

MUTANTS = (
    _mutant("a taken key is taken for ours", "staging", "                return there\n",
            "                return body\n",
            _BY_A_CLAIM),
    _mutant("manifest.json comes in any order", "staging", "key=lambda file: (rank.get(file.path, 0), file.path)",
            "key=lambda file: (len(rank) * 0, file.path[::-1])", "test_manifest_and_checksums_come_last[objects]"),
    _mutant("digests are not compared", "staging", "if digest != (file.sha256, file.size_bytes)", "if not digest",
            "test_bytes_that_a_store_changed_are_noticed"),
    _mutant("staged bytes are not read back", "promote",
            "        _check_staged(desk, staging, files)\n", "",
            "test_bytes_that_a_store_changed_are_noticed"),
    _mutant("production is not read back", "finish",
            "check_files(desk.repository, PurePosixPath(claim.version), claim.files, desk.terms.readers)", "pass",
            "test_bytes_that_a_store_changed_are_noticed"),
    _mutant("a dropped area is claimed", "promote", "if not is_whole(", "if False and not is_whole(",
            f"{_OVERTAKEN}[recovery-objects]"),
    _mutant("a dropped area of a version that is out is a failure", "promote",
            "        if done is not None:\n            return done\n        raise", "        raise",
            "test_overtaken_by_a_publisher_and_then_by_who_tidies_up"),
    _mutant("a finished area is taken for a dropped one", "promote",
            " and read_or_none(repository, key) != claim.audit:", ":", f"{_OVERTAKEN}[another version-objects]"),
    _mutant("no fate is decided before the claim", "promote", "    _win_fate(draft)\n", "",
            f"{_OVERTAKEN}[recovery-objects]"),
    _mutant("whoever lives is not asked", "recover", "    if alive:\n", "    if False:\n",
            f"{_OVERTAKEN}[recovery-folders]"),
    _mutant("a publish drops what others are filling", "recover", "may_drop=not cautious or alive is False",
            "may_drop=True", f"{_OVERTAKEN}[another version-objects]"),
    _mutant("the claim decides nothing", "promote", "    if create(repository, key, claim.audit) == claim.audit:",
            "    if create(repository, key, claim.audit):", _BY_A_CLAIM),
    _mutant("the index's signature is not checked", "pointer",
            "        self._trust.check_index(body, signature)\n        return self._extends",
            "        return self._extends",
            "test_an_index_that_does_not_hold_stops_a_publish[signed by a stranger]"),
    _mutant("an index may vanish", "pointer", "            if self._last.index is not None:\n                raise",
            "            if False:\n                raise",
            "test_an_index_that_does_not_hold_stops_a_publish[gone while at work]"),
    _mutant("the index is not signed", "pointer", "signature = create(self.repository, key, keys.sign_index(body))",
            "signature = keys.sign_index(body)", _GOOD),
    _mutant("a moved pointer ends it", "pointer", "            _give_way(turn)\n", "            raise\n",
            f"{_OVERTAKEN}[another version-objects]"),
    _mutant("a lost answer ends it", "pointer",
            "            # The next turn reads whether it happened.\n            continue\n",
            "            raise\n", "test_a_lost_answer_behind_the_area_is_no_failure"),
    _mutant("the swap is on no condition", "pointer", "known.sign(wanted, keys), seen.token)",
            "known.sign(wanted, keys), getattr(known.repository.read_pointer(INDEX), 'token', None))",
            f"{_OVERTAKEN}[another version-objects]"),
    _mutant("the area is left behind", "finish",
            "        refresh_view(desk.known)\n        desk.repository.delete(claim.staging.folder)\n",
            "        refresh_view(desk.known)\n", _GOOD),
    _mutant("index.md is not written", "finish",
            "        refresh_view(desk.known)\n        desk.repository.delete(claim.staging.folder)\n",
            "        desk.repository.delete(claim.staging.folder)\n", _GOOD),
    _mutant("the audit's signature is not put in place", "finish",
            "        create_exactly(desk.repository, seal_key(claim.version), claim.seal)\n", "        pass\n", _GOOD),
    _mutant("recovery forgets index.md", "recover", "        refresh_view(desk.known)\n        return RecoveryReport",
            "        return RecoveryReport", f"{_KILLED}[second-objects]"),
    _mutant("the next publish forgets index.md", "recover", "        if report.of(Became.DROPPED):\n",
            "        if False:\n", "test_published_again_after_a_kill_it_is_out_once[objects]"),
    _mutant("recovery drops what is claimed", "recover",
            "        return _roll_forward(desk, read_claim(desk.repository, desk.trust, version, claimed_by))",
            "        return _drop(desk, staging, version)", f"{_KILLED}[second-objects]"),
    _mutant("recovery leaves what nobody claimed", "recover", "        if not may_drop:\n", "        if True:\n",
            f"{_KILLED}[second-objects]"),
    _mutant("a publish does not recover first", "promote", "        recover_before(desk)\n", "        pass\n",
            f"{_NEXT}[folders]"),
    _mutant("nothing need be judged", "promote", "    if broken or not outcomes:", "    if broken:",
            "test_nothing_goes_out_that_policy_stops"),
    _mutant("a broken rule stops nothing", "promote", "    if broken or not outcomes:", "    if not outcomes:",
            "test_nothing_goes_out_that_policy_stops"),
    _mutant("any verification will do", "promote", " or release.result.subject != release.manifest_sha256", "",
            "test_nothing_goes_out_that_was_not_verified_as_it_is"),
    _mutant("what is free goes out as it was judged when it was taken", "promote", "    if again:\n", "    if False:\n",
            "test_what_was_judged_as_published_is_not_published_where_it_is_not[objects]"),
    _mutant("other bytes are the same", "claims", "    if mine == there:\n", "    if True:\n",
            "test_other_bytes_never_replace_a_version"),
    _mutant("what is in the places is not looked at", "claims", "    if foreign := _foreign(repository, version):",
            "    if foreign := \"\":", "test_a_version_whose_places_are_taken_is_refused_before_the_claim"),
    _mutant("a failed publish leaves its area", "desk",
            "                self.desk.repository.delete(self.staging.folder)\n", "                pass\n",
            "test_ctrl_c_before_the_claim_leaves_nothing"),
    _mutant("a decided area is removed", "desk", "            if self.decided:\n", "            if False:\n",
            "test_the_state_line_is_true_whatever_fails"),
    _mutant("an audit's signature is not checked", "claims", "    trust.check_audit(body, seal)\n", "",
            "test_a_claim_that_was_tampered_with_is_not_finished"),
    _mutant("strange areas are removed", "recover", "    if name.startswith(_PROBE):", "    if True:",
            "test_foreign_things_are_told_and_left"),
    _mutant("a claim without an area is given up", "recover", "        return _roll_forward(desk, claim)\n    except",
            "        return None\n    except", "test_a_claim_whose_area_is_gone_is_finished_from_its_place"),
)  # fmt: skip
