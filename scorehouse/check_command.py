"""`scorehouse check`: asks both services to compare their stores, prints what they found, says what to do."""

import json
from dataclasses import dataclass

from rich.progress import Progress

from scorehouse.blocking import Scorehouse
from scorehouse.calls import ScorehouseError, Service
from scorehouse.terminal import INTERRUPTED, bare_bar, complain, count, out, say
from shared.analysis import FeedHealth
from shared.reconciliation import Reconciliation

SHOWN = 10
"""Differences that are printed one by one; --json has a hundred."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What both services found, and how the analysis follows the feed."""

    reports: dict[Service, Reconciliation]
    feed: FeedHealth

    @property
    def agree(self) -> bool:
        """Whether nothing is left to do."""
        return self.feed.stopped is None and not any(report.remaining for report in self.reports.values())

    @property
    def next_steps(self) -> list[str]:
        """What to do, in order, each thing once."""
        steps = [
            finding.next_step
            for report in self.reports.values()
            for finding in report.findings
            if finding.found > finding.repaired
        ]
        if self.feed.stopped is not None:
            steps.append("the analysis has stopped following the feed; see the reason above and its log")
        return list(dict.fromkeys(steps))


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What the user chose."""

    results_url: str | None
    analysis_url: str | None
    repair: bool = False
    quick: bool = False
    """Whether to leave out what takes long: sums, which are made again from the answers."""
    as_json: bool = False


def run_check(options: CheckOptions) -> int:
    """Compare, print what was found; the exit code: 0 if both agree (or do now), 1 otherwise."""
    try:
        with Scorehouse(options.results_url, options.analysis_url) as house, bare_bar() as bar:
            # The results service first: what it appends, the analysis applies.
            reports = {service: _compare(house, service, bar, options) for service in Service}
            feed = house.analysis_health().feed
    except KeyboardInterrupt:
        complain("interrupted; checking again is safe, also after a repair")
        return INTERRUPTED
    except ScorehouseError as error:
        hint = "; 'check' needs an API key with the scope admin" if error.status in (401, 403) else ""
        complain(f"{error}{hint}")
        return 1
    checked = Checked(reports, feed)
    if options.as_json:
        say(out(), json.dumps(_document(checked), ensure_ascii=False, indent=2))
    else:
        print_checked(checked)
    return 0 if checked.agree else 1


def _compare(house: Scorehouse, service: Service, bar: Progress, options: CheckOptions) -> Reconciliation:
    task = bar.add_task(f"{service} service", total=None)
    for line in house.reconcile(service, repair=options.repair, sums=not options.quick):
        bar.update(task, description=f"{service} service: {line.phase}", completed=line.done, total=line.total or None)
        if line.report is not None:
            bar.remove_task(task)
            return line.report
    raise AssertionError("a comparison ends with its report, or raises")


def print_checked(checked: Checked) -> None:
    """Print a line a service, a table of what differs, and what to do."""
    console = out()
    for service, report in checked.reports.items():
        looked_at = f"{count(report.results, 'result')}, {_entries(report.entries)} of the feed"
        if not report.differences:
            verdict, style = "no differences", "green"
        else:
            verdict = f"{count(report.differences, 'difference')}, {report.repaired:,} repaired"
            style = "bold red" if report.remaining else "yellow"
        say(console, f"{service + ' service':<17} {looked_at}: {verdict}", style)
        for finding in report.findings:
            say(console, f"  {finding.found:>9,}  {finding.reason:<16} {finding.meaning}")
        for difference in report.first[:SHOWN]:
            mark = "repaired " if difference.repaired else "         "
            say(console, f"             {mark}{difference.result_name}: {difference.detail}")
        if report.differences > SHOWN:
            say(console, f"             … and {report.differences - SHOWN:,} more")
    if checked.feed.stopped is not None:
        say(console, f"the analysis is stopped at entry {checked.feed.position}: {checked.feed.stopped}", "bold red")
    elif checked.feed.lag:
        say(console, f"the analysis is {_entries(checked.feed.lag)} behind and follows")
    if checked.agree:
        say(console, "both stores agree", "green")
    for step in checked.next_steps:
        say(console, f"next: {step}", "bold")


def _entries(number: int) -> str:
    return f"{number:,} {'entry' if number == 1 else 'entries'}"


def _document(checked: Checked) -> dict[str, object]:
    return {
        "agree": checked.agree,
        **{service.value: report.model_dump(mode="json") for service, report in checked.reports.items()},
        "feed": checked.feed.model_dump(mode="json"),
        "next_steps": checked.next_steps,
    }
