import threading

import pytest

from puppet.feed import Feed


def test_every_item_comes_in_order_when_ahead_is_bounded():
    assert list(Feed(range(50), ahead=3, name="t")) == list(range(50))


def test_a_bounded_feed_makes_no_more_than_it_may():
    made, go_on = [], threading.Event()

    def items():
        for i in range(100):
            made.append(i)
            if i == 3:  # 0, 1, 2 wait in the queue and this one waits for a place
                go_on.set()
            yield i

    feed = Feed(items(), ahead=3, name="t")
    assert go_on.wait(5)
    assert made == [0, 1, 2, 3]
    feed.close()


def test_the_newest_item_wins_in_a_slot():
    feed = Feed(range(10), ahead=None, name="t")
    feed._thread.join(5)
    assert feed.take() == 9
    assert feed.dropped == 9
    assert feed.is_finished


def test_an_error_comes_after_the_items_made_before_it():
    def items():
        yield 1
        raise ValueError("broken file")

    feed = Feed(items(), ahead=2, name="t")
    assert feed.take() == 1
    with pytest.raises(ValueError, match="broken file"):
        feed.take()
    assert feed.take() is None


def test_take_gives_none_when_nothing_comes_in_time():
    hold = threading.Event()

    def items():
        hold.wait(10)
        yield 1

    feed = Feed(items(), ahead=None, name="t")
    assert feed.take(0.01) is None
    assert not feed.is_finished
    hold.set()
    assert feed.take(5) == 1


def test_close_ends_a_feed_that_waits_for_a_place():
    feed = Feed(iter(int, 1), ahead=2, name="t")
    feed.close()
    assert not feed._thread.is_alive()
