"""Poisson counts of larger means: the quantile of a uniform deviate, expanded, and checked where it must be.

The count that belongs to a deviate u is the least k whose cumulative probability P(X <= k) = Q(k + 1, mean) is above u
(Q: the upper incomplete gamma function over the whole one). So it is the whole part of the x at which Q(x, mean) = u.
Temme's expansion of Q, inverted, gives x: with w the normal deviate of u and s = w / sqrt(mean)

    x = mean r(s) + c(s) + d(s) / mean + ...,   r(s) = 1 + s + s^2 p(s),   s^2 / 2 = 1 - r + r ln r

(N. M. Temme, "The asymptotic expansion of the incomplete gamma functions", SIAM J. Math. Anal. 10 (1979) 757-766;
M. B. Giles, "Algorithm 955: approximation of the inverse Poisson cumulative distribution function", ACM Trans.
Math. Softw. 42 (2016) 7).
p, c and d are polynomials here, fitted to those functions, right to 1.3e-7, 7e-6 and 2.5e-3 for ``S_LEAST`` <= s <=
``S_MOST``. Where x lies too near to a whole number for that, or s beyond, sums of probabilities decide.
"""

from __future__ import annotations

import math

from bragg_numba.kernels._jit import device_function

__all__ = ["S_LEAST", "S_MOST", "beyond_mean", "count_of_quantile", "log_probability", "tail_deviate"]

#: Where the polynomials hold.
S_LEAST, S_MOST = -0.85, 1.2

#: Error of x: that of d over the mean, and of p and c.
OF_D, OF_P_AND_C = 3e-3, 3e-5

# From this count on the series for ln k! is right to 1e-10.
STIRLING_FROM = 10.0
# A term this small no longer changes a sum.
NEGLIGIBLE = 2.0**-56


@device_function
def beyond_mean(root, inverse, w):
    """Return by how much the quantile of a normal deviate ``w`` lies above the mean (eq. 55), and s; in w's type.

    ``root`` is that of the mean, ``inverse`` 1 over it. Right where s lies between ``S_LEAST`` and ``S_MOST``.
    """
    real = type(w)
    s = w * inverse
    p = real(1.55891974e-4) + s * (real(-1.10009986e-4) + s * real(3.37706493e-5))
    p = real(-1.33596286e-3) + s * (real(5.39823182e-4) + s * (real(-2.33253594e-4) + s * p))
    p = real(0.166666579) + s * (real(-0.0138886076) + s * (real(3.70702831e-3) + s * p))
    c = real(1.86257462e-3) + s * (real(-1.32640054e-3) + s * real(4.60274269e-4))
    c = real(0.333337157) + s * (real(-0.0277998715) + s * (real(8.56018915e-3) + s * (real(-3.31976353e-3) + s * c)))
    d = real(-0.0189426005) + s * (real(0.0182529479) + s * (real(-0.0203688318) + s * real(0.0106878181)))
    return root * w + (w * w * p + (c + inverse * inverse * d)), s


@device_function
def tail_deviate(p):
    """Return the normal deviate below which lies the probability ``p``, at most 0.5, to 1e-9.

    A rational start, right to 5e-4, and a step of Halley's method on the complementary error function: its error is
    about the third power.
    """
    t = math.sqrt(-2.0 * math.log(p))
    x = -(t - (2.515517 + t * (0.802853 + t * 0.010328)) / (1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308))))
    error = 0.5 * math.erfc(-x / math.sqrt(2.0)) - p
    step = error * math.sqrt(2.0 * math.pi) * math.exp(0.5 * x * x)
    return x - step / (1.0 + 0.5 * x * step)


@device_function
def log_probability(count, mean):
    """Return ln(mean^count exp(-mean) / count!), also where both are so large that its terms cancel."""
    if count < STIRLING_FROM:
        return count * math.log(mean) - mean - math.lgamma(count + 1.0)
    # With d = count - mean the leading terms of Stirling's series become d + count ln(1 - d / count), of the
    # order of d^2 / count: no cancellation of numbers of the size of count ln(count).
    d = count - mean
    inverse = 1.0 / count
    square = inverse * inverse
    series = inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0)))
    return d + count * math.log1p(-d * inverse) - 0.5 * math.log(2.0 * math.pi * count) - series


@device_function
def is_passed(count, mean, p, upper):
    """Return whether the distribution has passed the deviate at ``count``.

    The deviate is ``p``, and counts up to this one are summed; or, if ``upper``, 1 - ``p``, and those above are.
    """
    total, term = 1.0, 1.0
    if upper:
        first = n = count + 1.0
        while term > NEGLIGIBLE * total:
            n += 1.0
            term *= mean / n
            total += term
    else:
        first = n = count
        while term > NEGLIGIBLE * total and n > 0.0:
            term *= n / mean
            total += term
            n -= 1.0
    found = math.exp(log_probability(first, mean)) * total
    return found < p if upper else found > p


@device_function
def count_of_quantile(mean, p, upper):
    """Return the count of the deviate ``p``, or 1 - ``p`` if ``upper``; 0 < p <= 0.5, mean of 12 or more.

    The distribution is right to the rounding of float64: to 1e-12 of each tail for means up to 1e6.
    """
    w = tail_deviate(p)
    root = math.sqrt(mean)
    above, s = beyond_mean(root, 1.0 / root, -w if upper else w)
    # Of the mean itself, a part beyond the whole number it may hold is lost to rounding.
    margin = OF_D / mean + OF_P_AND_C + 3e-9 * root + 1e-15 * mean
    x = max(mean + above, 0.0)
    count = math.floor(x) * 1.0
    if s < S_LEAST or s > S_MOST:
        while not is_passed(count, mean, p, upper):
            count += 1.0
        while count > 0.0 and is_passed(count - 1.0, mean, p, upper):
            count -= 1.0
    elif abs(x - math.floor(x + 0.5)) < margin:
        step = math.floor(x + 0.5) * 1.0
        count = step - 1.0 if is_passed(step - 1.0, mean, p, upper) else step
    return count
