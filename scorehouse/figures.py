"""Statistics as the command writes them; what is null is a dash."""

NOT_KNOWN = "-"
LEAST_P = 0.001


def signed(number: float | None) -> str:
    """`+0.031`."""
    return NOT_KNOWN if number is None else f"{number:+.3f}"


def interval(low: float | None, high: float | None, form: str = "+.3f") -> str:
    """`+0.012 to +0.050`."""
    return NOT_KNOWN if low is None or high is None else f"{low:{form}} to {high:{form}}"


def p_value(p: float | None) -> str:
    """`0.042`, or `<0.001`."""
    if p is None:
        return NOT_KNOWN
    return f"{p:.3f}" if p >= LEAST_P else f"<{LEAST_P}"


def percent(share: float) -> str:
    """`95 %`, `99.9 %`."""
    return f"{100 * share:.6g} %"


def two_digits(number: int) -> int:
    """The next greater number of two digits and zeros: more digits of an estimate would claim to know more."""
    step: int = 10 ** max(0, len(str(number)) - 2)
    return -(-number // step) * step
