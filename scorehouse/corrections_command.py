"""`scorehouse invalidate` and `scorehouse restore`."""

from getpass import getuser

from scorehouse.blocking import Scorehouse
from scorehouse.calls import ScorehouseError
from scorehouse.retries import Retries
from scorehouse.terminal import INTERRUPTED, Waits, complain, err, out, say
from shared.results import CorrectionAction, ResultKind


def run_correction(
    action: CorrectionAction, name: str, *, author: str | None, reason: str, kind: ResultKind, url: str | None
) -> int:
    """Invalidate or restore a result and print its state; the exit code. The author defaults to the login name."""
    retries = Retries()
    waits = Waits(err(), retries.patience_s)
    try:
        with Scorehouse(url, retries=retries, on_wait=waits.tell) as house:
            correct = house.invalidate if action is CorrectionAction.INVALIDATED else house.restore
            answer = correct(name, author or getuser(), reason, kind)
    except KeyboardInterrupt:
        complain("interrupted; saying it again is safe")
        return INTERRUPTED
    except (ScorehouseError, OSError, KeyError) as error:  # getuser raises the latter two where there is no login
        complain(str(error) if isinstance(error, ScorehouseError) else "who are you? Give --author")
        return 1
    was = "was so already" if answer.unchanged else f"said {answer.history[-1].author}"
    say(out(), f"{answer.result_name} is {answer.state}, {was}; corrections so far: {len(answer.history)}")
    return 0
