"""The verdict on a gate's ratio: it holds, fails on a quiet machine, and is skipped on a busy one."""

import pytest

QUIET, SPREAD, CROWDED = (0.01, 0.99), (0.2, 0.99), (0.01, 0.6)


@pytest.fixture(scope="module")
def judging(bench):
    return bench("judge")


def _verdict(judging, figures, unrest, **options):
    given = iter(figures)
    return judging.judge(
        "lead", lambda: next(given), lambda lead: lead >= 10.0, lambda: judging.Unrest(*unrest), **options
    )


def test_one_figure_that_holds_settles_it(judging):
    assert _verdict(judging, [10.5], CROWDED) == 10.5
    assert _verdict(judging, [7.0, 8.0, 11.0], CROWDED) == 11.0


def test_two_that_agree_fail_on_a_quiet_machine(judging):
    with pytest.raises(pytest.fail.Exception, match=r"lead: 9, 7, 8.8; the yardstick differs by 1.0% from itself"):
        _verdict(judging, [9.0, 7.0, 8.8], QUIET)


@pytest.mark.parametrize("unrest", [SPREAD, CROWDED])
def test_two_that_agree_say_nothing_on_a_busy_machine(judging, unrest):
    with pytest.raises(pytest.skip.Exception, match="too busy to judge: lead: 9, 8.9; the yardstick"):
        _verdict(judging, [9.0, 8.9], unrest)


def test_figures_that_never_agree_are_given_up(judging):
    with pytest.raises(pytest.skip.Exception, match="too busy to judge: lead: 5, no two alike"):
        _verdict(judging, [5.0], QUIET, patience_s=0.0)


def test_the_unrest_is_measured(judging):
    unrest = judging.measure_unrest(pairs=3)

    assert unrest.spread >= 0.0
    assert 0.0 < unrest.share < 1.1
