"""Every reader of files gives a valid object or one line of error, whatever the file: a fixed short run.

`python -m tests.fuzz --minutes 20` is the long one.
"""

import pytest
from fuzz.mutate import KINDS, Damage, damaged
from fuzz.targets import IN_PROCESS, TARGETS, execute
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

DAMAGE = st.builds(
    Damage,
    kind=st.sampled_from(KINDS),
    place=st.floats(0, 1),
    length=st.integers(1, 4096),
    value=st.integers(0, 65535),
)
EXAMPLES = {"config": 60, "track": 80, "rig": 60, "mouth": 60}
REFUSED_SEEDS = {"portrait": 2, "video": 2, "model": 6, "rig": 3, "mouth": 3, "folds": 3}
"""Of the files to begin with, those that are hostile as they are."""


@pytest.fixture(scope="module", params=IN_PROCESS)
def name(request):
    return request.param


def test_the_files_to_begin_with_are_valid(name, tmp_path):
    seeds = TARGETS[name].seeds()
    accepted = sum(execute(TARGETS[name], data, tmp_path) for data in seeds)
    assert len(seeds) - accepted == REFUSED_SEEDS.get(name, 0)


def test_damage_ends_in_one_line(name, tmp_path_factory):
    target, folder = TARGETS[name], tmp_path_factory.mktemp(name)
    seeds = list(target.seeds())

    @settings(
        max_examples=EXAMPLES.get(name, 120),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(seed=st.sampled_from(seeds), damages=st.lists(DAMAGE, min_size=1, max_size=6), is_repaired=st.booleans())
    def attack(seed, damages, is_repaired):
        data = damaged(seed, damages, tokens=target.tokens, others=seeds)
        execute(target, target.repair(data) if target.repair and is_repaired else data, folder)

    attack()
