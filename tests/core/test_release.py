"""The release that a rollback restores is never one that was rolled back, and is a good one if one is recorded."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.core.release import Release, ReleaseMemory, Verdict, previous
from remediator.errors import TargetError

pytestmark = pytest.mark.promise(12)

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def release(name: str, *, current: bool = False, **facts: bool) -> Release:
    """Return a release without a history."""
    return Release(name, NOON, current, facts)


def memory(**verdicts: str) -> ReleaseMemory:
    """Return a memory with these releases."""
    return ReleaseMemory({name: Verdict(verdict) for name, verdict in verdicts.items()})


@pytest.mark.parametrize(
    ("releases", "known", "expected"),
    [
        pytest.param("c* b a", {}, "b", id="the one before"),
        pytest.param("c* b a", {"b": "bad"}, "a", id="not one that was rolled back"),
        pytest.param("b* c a", {"a": "bad", "c": "good"}, "c", id="a good one that the platform lists as newer"),
        pytest.param("c* b a", {"a": "good"}, "b", id="the newest that is not known to be bad"),
        pytest.param("d c* b", {"b": "bad", "d": "good"}, "d", id="a good one, if no earlier one is usable"),
    ],
)
def test_the_restored_release(releases: str, known: dict[str, str], expected: str) -> None:
    """The restored release is the newest earlier one that is not bad, otherwise the newest one that was proved good."""
    listed = [release(name.rstrip("*"), current=name.endswith("*")) for name in releases.split()]

    _, restored = previous("app", listed, memory(**known))

    assert restored.id == expected


def test_the_store_has_priority_over_the_record_of_the_platform() -> None:
    """The store has priority: a person may have cleared the entry, or the release was proved good later."""
    listed = [release("b", current=True), release("a", redo=True)]

    with pytest.raises(TargetError, match="not used, because they were rolled back: a"):
        previous("app", listed, memory())
    assert previous("app", listed, memory(a="good"))[1].id == "a"


def test_a_good_release_decides_between_releases_of_the_same_age() -> None:
    """If the order of the releases is unknown, the one that was proved good is restored."""
    listed = [release("c", current=True), release("b", tied=True), release("a", tied=True)]

    with pytest.raises(TargetError, match="several releases have the same age"):
        previous("app", listed, memory())
    assert previous("app", listed, memory(a="good"))[1].id == "a"


def test_a_restart_of_the_current_release_is_not_the_one_before() -> None:
    """Both have the same identity, so the rollback restores the release before both."""
    restarted = replace(release("b2", current=True), identity="b")

    assert previous("app", [restarted, replace(release("b1"), identity="b"), release("a")], memory())[1].id == "a"


@pytest.mark.parametrize("current", [(), ("a", "b")])
def test_not_exactly_one_current_release_is_an_error(current: tuple[str, ...]) -> None:
    """No current release, or several, as in an unfinished deployment, need a person."""
    with pytest.raises(TargetError, match="exactly one release must be current"):
        previous("app", [release(name, current=name in current) for name in "ba"], memory())


def test_a_release_is_named_as_people_know_it() -> None:
    """A release is named by image and version, with its time and author; the ID is used only without these."""
    named = Release("sha256:0", NOON, True, name="shop:1.4.2", deployed_by="helm")

    assert named.title == "shop:1.4.2 (since 2024-05-01T12:00Z by helm)"
    assert Release("web-6d4b", None, False).title == "web-6d4b"


def test_a_long_identity_fits_the_store() -> None:
    """Two long identities that differ are stored as different ones."""
    one, other = (Release("a", None, False, identity="x" * 300 + end).key for end in "12")

    assert one != other and len(one) <= 200


@dataclass
class Shop:
    """A target whose releases are deployed, found bad and rolled back, with the memory of the store."""

    deployed: list[tuple[str, datetime]] = field(default_factory=list)
    """Each release with the time of its last deployment; the current release is the last item."""
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    def deploy(self, name: str) -> None:
        """Deploy a release for the first time or again."""
        at = NOON + timedelta(minutes=len(self.deployed))
        self.deployed.append((name, at))

    def roll_back(self) -> str:
        """Roll back, mark the result as healthy as the pipeline does, and return the restored release."""
        newest = list(dict.fromkeys(name for name, _ in reversed(self.deployed)))
        listed = [Release(name, NOON, number == 0) for number, name in enumerate(newest)]
        left, restored = previous("app", listed, ReleaseMemory(self.verdicts))
        self.verdicts |= {left.key: Verdict.BAD, restored.key: Verdict.GOOD}
        self.deploy(restored.id)
        return restored.id


@given(st.lists(st.sampled_from(["bad-1", "bad-2", "bad-3", "bad-4"]), min_size=1, max_size=12))
def test_every_bad_release_is_rolled_back_to_the_last_good_one(bad: list[str]) -> None:
    """This holds for any number of bad releases in sequence, and for repeated deployments of a bad release."""
    shop = Shop()
    shop.deploy("good")
    for name in bad:
        shop.deploy(name)
        assert shop.roll_back() == "good"


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_the_last_good_release_moves_with_each_good_deployment(outcomes: list[bool]) -> None:
    """The newest good release that was never rolled back is restored, not an older proved one."""
    shop = Shop()
    shop.deploy("release-0")
    good = "release-0"
    for number, healthy in enumerate(outcomes, start=1):
        shop.deploy(f"release-{number}")
        if healthy:
            good = f"release-{number}"
        else:
            assert shop.roll_back() == good


@given(
    st.permutations(["a", "b", "c", "d", "e"]),
    st.dictionaries(st.sampled_from("abcde"), st.sampled_from(list(Verdict))),
    st.sampled_from("abcde"),
)
def test_a_bad_release_is_never_chosen_and_a_good_one_never_missed(
    order: list[str], verdicts: dict[str, Verdict], current: str
) -> None:
    """This holds for any order of the releases on a platform, and for any memory."""
    listed = [Release(name, NOON, name == current) for name in order]
    others_good = {name for name, verdict in verdicts.items() if verdict is Verdict.GOOD} - {current}

    try:
        _, restored = previous("app", listed, ReleaseMemory(verdicts))
    except TargetError:
        assert not others_good
    else:
        assert restored.id != current and verdicts.get(restored.id) is not Verdict.BAD
