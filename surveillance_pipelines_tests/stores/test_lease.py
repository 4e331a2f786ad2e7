"""One holder per queue, and a number that tells an old one off."""

import pytest

from surveillance_pipelines.clock import SYSTEM_CLOCK
from surveillance_pipelines.stores.database import connect
from surveillance_pipelines.stores.lease import Lease, LeaseLostError, acquire, release, renew


@pytest.fixture
def database(database_url):
    with connect(database_url, autocommit=True) as connection:
        yield connection


def taken(database, queue_url: str, holder: str, seconds: float) -> Lease:
    lease = acquire(database, queue_url, holder=holder, seconds=seconds)
    assert lease is not None
    return lease


def test_lease_is_refused_while_another_holds_it(database):
    assert acquire(database, "q", holder="a", seconds=60) is not None
    assert acquire(database, "q", holder="b", seconds=60) is None
    assert acquire(database, "other", holder="b", seconds=60) is not None


def test_released_lease_is_free_at_once_with_a_higher_fencing_number(database):
    first = taken(database, "q", "a", 60)
    release(database, first)
    second = taken(database, "q", "b", 60)
    assert second.fencing == first.fencing + 1


def test_expired_lease_goes_to_the_next_and_the_old_holder_is_told(database):
    old = taken(database, "q", "a", 0.05)
    SYSTEM_CLOCK.sleep(0.1)
    new = taken(database, "q", "b", 60)
    with pytest.raises(LeaseLostError, match="another run"):
        renew(database, old)
    renew(database, new)


def test_expired_lease_that_nobody_took_is_still_held(database):
    lease = taken(database, "q", "a", 0.2)
    SYSTEM_CLOCK.sleep(0.25)
    renew(database, lease)
    assert acquire(database, "q", holder="b", seconds=60) is None


def test_release_of_a_lost_lease_leaves_the_new_holder_alone(database):
    old = taken(database, "q", "a", 0.05)
    SYSTEM_CLOCK.sleep(0.1)
    acquire(database, "q", holder="b", seconds=60)
    release(database, old)
    assert acquire(database, "q", holder="c", seconds=60) is None
