"""Each term of the texture networks' loss does what it says, on tiny data."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from texture_shards import INSIDE, SMALL  # noqa: E402

from puppet.generate.region import ACTION_COUNT, MOUTH_SHAPE  # noqa: E402
from trainer.generator import LossWeights  # noqa: E402
from trainer.texture_losses import (  # noqa: E402
    Loop,
    attention_terms,
    critic_loss,
    critic_terms,
    cycle_terms,
    error,
    paired_terms,
    unlike_change,
    variation,
    way_back,
)
from trainer.texture_model import Critic, Painted, RegionNetwork  # noqa: E402
from trainer.texture_params import TextureParams  # noqa: E402

HEIGHT, WIDTH = MOUTH_SHAPE.seen_size


def planes(count, channels, *, seed=0):
    return torch.rand(count, channels, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def opening(count=2):
    out = torch.zeros(count, 1, HEIGHT, WIDTH)
    out[(..., *INSIDE)] = 1
    return out


def test_an_error_where_motion_uncovered_something_counts_more():
    answer, uncovered = planes(1, 3), opening(1)
    inside, outside = (answer + 0.1 * mask for mask in (uncovered, torch.roll(uncovered, 50, 2)))
    assert error(inside, answer, uncovered, 6.0) > 5 * error(outside, answer, uncovered, 6.0)
    assert error(inside, answer, uncovered, 0.0) == pytest.approx(float(error(outside, answer, uncovered, 0.0)))


def test_attention_is_free_where_motion_uncovered_something_and_costs_elsewhere():
    weight, uncovered = LossWeights(attention=1.0), opening(1)
    assert attention_terms(weight, uncovered, uncovered)["attention"] == 0
    assert attention_terms(weight, 1 - uncovered, uncovered)["attention"] > 0.5


def test_smooth_attention_varies_less_than_rough_attention_of_the_same_amount():
    rough = (torch.arange(WIDTH) % 2).float().expand(1, 1, HEIGHT, WIDTH)
    smooth = (torch.arange(WIDTH) >= WIDTH // 2).float().expand(1, 1, HEIGHT, WIDTH)
    assert variation(rough) > 50 * variation(smooth) > 0


def test_a_colour_that_is_wrong_costs_even_where_attention_hides_it():
    answer, nothing = planes(1, 3, seed=2), np.zeros((0, 2))
    right, wrong = (
        paired_terms(LossWeights(), Painted(c, 0 * opening(1), answer), answer, nothing, uncovered=opening(1))
        for c in (answer, answer + 0.5)
    )
    assert right["colour"] == 0
    assert wrong["colour"] > 0.1


def test_the_temporal_term_sees_flicker_that_a_still_error_does_not():
    answer, pairs = planes(1, 3).expand(2, -1, -1, -1), np.array([[0, 1]])
    steady = answer + 0.1
    flickering = answer + torch.tensor([0.1, -0.1])[:, None, None, None]
    assert unlike_change(steady, answer, pairs) == pytest.approx(0, abs=1e-6)
    assert unlike_change(flickering, answer, pairs) == pytest.approx(0.2, abs=1e-5)


def loop(count=2, *, shift=0):
    """Unpaired pictures that go to sampled actions by a shift of some pixels, and back."""
    picture = planes(count, 3)
    moved = torch.cat([torch.roll(picture, shift, 3), opening(count), 0 * opening(count)], 1)
    rows, columns = np.indices((HEIGHT, WIDTH), np.float32)
    shown = torch.from_numpy(np.dstack([columns + shift, rows]))[None].expand(count, -1, -1, -1)
    closed = torch.cat([moved[:, :3], 0 * opening(count), 0 * opening(count)], 1)
    there = torch.eye(2, 3)[None].expand(count, -1, -1)
    actions = torch.zeros(count, ACTION_COUNT)
    rest = torch.cat([picture, 0 * opening(count)], 1)
    return Loop(moved, rest, picture, actions + 1, closed, shown, there, 0 * opening(count), actions)


def test_the_way_back_carries_what_was_painted_to_where_it_was():
    own = loop(shift=5)
    moved, rest = way_back(own.moved[:, :3], own)
    torch.testing.assert_close(moved[..., :-5][:, :3], own.answer[..., :-5], atol=1e-4, rtol=0)
    torch.testing.assert_close(rest[:, :3], own.moved[:, :3], atol=1e-4, rtol=0)


def test_the_cycle_costs_nothing_if_nothing_is_painted_and_something_if_it_is():
    own = loop()

    class Network(torch.nn.Module):
        def __init__(self, change):
            super().__init__()
            self.change = torch.nn.Parameter(torch.tensor(change))

        def forward(self, moved, rest, actions):
            picture = moved[:, :3] + self.change
            return Painted(picture, torch.zeros_like(picture[:, :1]), picture)

    still, loud = (Network(change) for change in (0.0, 0.3))
    assert float(cycle_terms(LossWeights(), still, own, "mouth")[0]["cycle"].detach()) < 1e-5
    terms = cycle_terms(LossWeights(), loud, own, "mouth")[0]
    assert terms["cycle"] > 0.5  # painted on both ways
    terms["cycle"].backward()
    assert loud.change.grad > 1.5


def test_the_critic_learns_to_tell_real_from_painted_and_to_read_actions():
    torch.manual_seed(0)
    critic, rng = Critic(8), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(critic.parameters(), lr=1e-3)
    real, painted = planes(4, 3) * 0.3 + 0.4, planes(4, 3, seed=1) * 0.3 - 0.4
    actions = torch.linspace(0, 1, 4)[:, None].expand(-1, ACTION_COUNT)
    real = real * actions[:, :1, None, None]
    for _ in range(60):
        optimiser.zero_grad()
        loss = critic_loss(LossWeights(critic_actions=1.0), critic, real, actions, painted, rng)
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        assert critic(real)[0].mean() > critic(painted)[0].mean() + 0.5
        assert (critic(real)[1] - actions).square().mean() < 0.5 * actions.var()


def test_the_gradient_penalty_keeps_the_critics_slope_near_one():
    torch.manual_seed(0)
    from trainer.texture_model import gradient_penalty

    critic, rng = Critic(8), torch.Generator().manual_seed(0)
    with torch.no_grad():
        critic.realness.weight *= 1000
    steep = gradient_penalty(critic, planes(2, 3), planes(2, 3, seed=1), rng)
    with torch.no_grad():
        critic.realness.weight *= 0
    flat = gradient_penalty(critic, planes(2, 3), planes(2, 3, seed=1), rng)
    assert float(flat.detach()) == pytest.approx(1.0, abs=1e-3)
    assert float(steep.detach()) > 2


def test_the_network_learns_from_the_critic_and_the_critic_not_from_that():
    torch.manual_seed(0)
    critic, picture = Critic(8), planes(2, 3).requires_grad_()
    terms = critic_terms(LossWeights(critic=0.1), critic, picture, torch.zeros(2, ACTION_COUNT))
    sum(terms.values()).backward()
    assert picture.grad.abs().sum() > 0
    assert all(p.grad is None for p in critic.parameters())


def test_weights_scale_their_terms():
    network = RegionNetwork(TextureParams(**SMALL), MOUTH_SHAPE)
    once = float(cycle_terms(LossWeights(cycle=1.0), network, loop(), "mouth")[0]["cycle"].detach())
    twice = float(cycle_terms(LossWeights(cycle=2.0), network, loop(), "mouth")[0]["cycle"].detach())
    assert twice == pytest.approx(2 * once, rel=1e-5)
