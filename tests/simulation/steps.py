"""The search for steps where there are none, and where there is one."""

import numpy as np

from analysis_service.stats.steps import find_steps
from tests.simulation.promises import AT_MOST_5, F, Promise, Range

Random = np.random.Generator


def steps_found(rounds: int) -> list[Promise]:
    """How often anything is found in runs of one model, and how often a planted step is found at its run."""
    random = np.random.default_rng(121)
    promises = []
    for n_runs, n_questions in ((6, 100), (20, 100), (20, 500)):
        found = np.mean([len(find_steps(_runs(n_runs, n_questions, random), seed=r)) > 0 for r in range(rounds)])
        what = f"steps found in {n_runs} runs of {n_questions} questions without any"
        promises.append(Promise(what, np.array([found]), rounds, each=AT_MOST_5, nominal="5 %"))
    exact = np.mean([_is_found(_runs(12, 300, random, step=0.1), seed, at=6) for seed in range(rounds)])
    what = "a step of .1 amid 12 runs of 300 questions is found, and at its run"
    promises.append(Promise(what, np.array([exact]), rounds, each=Range(0.8, 1), nominal=""))
    return promises


def _is_found(scores: F, seed: int, at: int) -> bool:
    return any(step.at == at for step in find_steps(scores, seed=seed))


def _runs(n_runs: int, n_questions: int, random: Random, step: float = 0.0) -> F:
    """Right or wrong, by questions of various hardness; with a step the later half of the runs has fewer right."""
    chance = random.beta(2, 1, n_questions)
    after = np.arange(n_runs) >= n_runs // 2
    missed = after[:, None] & (random.random((n_runs, n_questions)) < step / (2 / 3))
    return np.asarray((random.random((n_runs, n_questions)) < chance) & ~missed, np.float64)
