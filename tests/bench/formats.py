"""How fast harnesses' files are read: samples a second of one core, from files to `Sample`s.

    python -m tests.bench.formats [--rounds 3] [--rows 40000] [--samples 5000]

The files are made up in the shape and size of real ones: rows of a multiple-choice task with the log-likelihoods of
four choices (2.7 kB), samples of an Inspect log with messages, output, score and events (13 kB), packed as Inspect
packs them. What is told is the median of some rounds, each a reader's whole work: find, read the head, all samples.
Processor time is counted, so other work on the machine makes little difference.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from shared.formats.harness import Format, HarnessRun, Ledger, ReadOptions
from shared.formats.inspect_log import INSPECT
from shared.formats.lm_eval import LM_EVAL
from shared.formats.tree import read_tree
from tests.bench.figures import Figure, compared, print_figures

if sys.version_info >= (3, 14):
    import zipfile
else:
    from backports.zstd import zipfile

LM_EVAL_LEAST_S = 20_000
INSPECT_LEAST_S = 5_000
MODEL = "acme/tiny-1"
DATE = "2026-01-02T03-04-05.678901"


def main() -> int:
    """Measure, print a table, and return 1 where a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3, help="how often each file is read")
    parser.add_argument("--rows", type=int, default=40_000, help="lines of the lm-evaluation-harness file")
    parser.add_argument("--samples", type=int, default=5_000, help="samples of each Inspect log")
    options = parser.parse_args()
    figures = measure(options.rounds, options.rows, options.samples)
    print_figures("Reading harnesses' files", figures)
    return 0 if all(figure.is_met for figure in figures) else 1


def measure(rounds: int = 3, rows: int = 40_000, samples: int = 5_000) -> list[Figure]:
    """Every figure of this module."""
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "lm-eval"
        write_lm_eval(made, rows)
        figures.append(_figure("lm-evaluation-harness, `.jsonl`", LM_EVAL, made, rows, rounds, LM_EVAL_LEAST_S))
        for name, method in (("deflate", zipfile.ZIP_DEFLATED), ("zstd", zipfile.ZIP_ZSTANDARD)):
            made = Path(folder) / name
            write_inspect(made, samples, method)
            what = f"Inspect, `.eval` with {name} members"
            figures.append(_figure(what, INSPECT, made, samples, rounds, INSPECT_LEAST_S))
    return figures


def _figure(what: str, reader: Format, folder: Path, count: int, rounds: int, least: float) -> Figure:
    rates = []
    for _ in range(rounds):
        began = time.process_time()
        taken = read_all(reader, folder)
        rates.append(taken / (time.process_time() - began))
        assert taken == count, f"{what}: {taken} of {count} samples were taken"
    size = max(file.stat().st_size for file in folder.iterdir()) / count
    told = f"{what} ({count:,} samples, {size / 1000:.1f} kB of file each)"
    return compared(told, statistics.median(rates), least, "samples/s", "limit", 1.0)


def read_all(reader: Format, folder: Path) -> int:
    """How many samples a reader takes from what is in a folder."""
    taken = 0
    for finding in reader.find(read_tree(folder)):
        for run in reader.read(finding, ReadOptions()):
            assert isinstance(run, HarnessRun), run
            for task in run.tasks:
                assert task.samples is not None, task.names
                taken += sum(1 for _ in task.samples(Ledger()))
    return taken


def write_lm_eval(folder: Path, rows: int) -> None:
    """One results file of lm-evaluation-harness and its samples."""
    folder.mkdir()
    results = {
        "results": {"quiz": {"alias": "quiz", "acc,none": 0.5, "acc_stderr,none": 0.01}},
        "configs": {"quiz": {"task": "quiz", "dataset_path": "acme/quiz", "output_type": "multiple_choice"}},
        "versions": {"quiz": 1.0},
        "n-samples": {"quiz": {"original": rows, "effective": rows}},
        "config": {"model": "hf", "model_args": f"pretrained={MODEL}"},
        "model_name": MODEL,
        "date": 1767323045.0,
    }
    (folder / f"results_{DATE}.json").write_text(json.dumps(results))
    with (folder / f"samples_quiz_{DATE}.jsonl").open("w") as file:
        for row in _rows(rows):
            file.write(json.dumps(row) + "\n")


def _rows(count: int) -> Iterator[dict[str, Any]]:
    words = random.Random(7)
    for number in range(count):
        question = f"{number}: {_text(words, 30)}?"
        choices = [_text(words, 4) for _ in range(4)]
        prompt = f"The following are multiple choice questions.\n\n{question}\n" + "\n".join(choices) + "\nAnswer:"
        answers = [[f"-{words.random() * 9}", str(choice == 1)] for choice in range(4)]
        doc = {"question": question, "subject": f"subject_{number % 57}", "choices": choices, "answer": number % 4}
        yield {
            "doc_id": number,
            "doc": doc,
            "target": str(number % 4),
            "arguments": {f"gen_args_{n}": {"arg_0": prompt, "arg_1": f" {'ABCD'[n]}"} for n in range(4)},
            "resps": [[answer] for answer in answers],
            "filtered_resps": answers,
            "filter": "none",
            "metrics": ["acc"],
            "doc_hash": sha256(question.encode()).hexdigest(),
            "prompt_hash": sha256(prompt.encode()).hexdigest(),
            "target_hash": sha256(b"0").hexdigest(),
            "acc": float(number % 2),
        }


def write_inspect(folder: Path, samples: int, method: int) -> None:
    """One log of Inspect, its members packed by a method of `zipfile`."""
    folder.mkdir()
    log = json.dumps(_log(samples))
    words = random.Random(7)
    with zipfile.ZipFile(folder / "2026-01-02T03-04-05+00-00_quiz_bench.eval", "w", method) as archive:
        archive.writestr("_journal/start.json", log)
        for number in range(1, samples + 1):
            archive.writestr(f"samples/{number}_epoch_1.json", json.dumps(_sample(words, number)))
        archive.writestr("header.json", log)


def _log(samples: int) -> dict[str, Any]:
    accuracy = {"name": "accuracy", "value": 0.5, "params": {}}
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": "benchEval",
            "run_id": "benchRun",
            "task_id": "benchTask",
            "created": "2026-01-02T03:04:05+00:00",
            "task": "quiz",
            "task_version": 0,
            "dataset": {"name": "quiz", "samples": samples, "sample_ids": list(range(1, samples + 1))},
            "model": MODEL,
            "config": {"epochs": 1},
            "packages": {"inspect_ai": "0.3.150"},
        },
        "results": {
            "total_samples": samples,
            "completed_samples": samples,
            "scores": [{"name": "match", "scorer": "match", "params": {}, "metrics": {"accuracy": accuracy}}],
        },
        "stats": {"started_at": "2026-01-02T03:04:05+00:00", "completed_at": "2026-01-02T03:14:05+00:00"},
    }


def _sample(words: random.Random, number: int) -> dict[str, Any]:
    question = f"{number}: {_text(words, 30)}?"
    usage = {"input_tokens": 120, "output_tokens": 310, "total_tokens": 430}
    answer = {"role": "assistant", "content": _text(words, 80), "source": "generate", "model": MODEL}
    messages = [{"role": "user", "content": question, "id": f"m{number}"}, answer]
    output = {
        "model": MODEL,
        "choices": [{"message": answer, "stop_reason": "stop"}],
        "completion": answer["content"],
        "usage": usage,
        "time": 2.5,
    }
    events = [
        {
            "uuid": f"e{number}-{place}",
            "span_id": "s1",
            "timestamp": "2026-01-02T03:04:06.789+00:00",
            "working_start": 1.5,
            "event": "model",
            "model": MODEL,
            "input": messages,
            "config": {"temperature": 0.0},
            "output": output,
        }
        for place in range(4)
    ]
    return {
        "id": number,
        "epoch": 1,
        "input": question,
        "target": "river",
        "messages": messages,
        "output": output,
        "scores": {"match": {"value": "CI"[number % 2], "answer": "river", "explanation": _text(words, 40)}},
        "metadata": {"level": number % 5, "subject": f"subject_{number % 57}"},
        "store": {},
        "events": events,
        "model_usage": {MODEL: usage},
        "total_time": 2.6,
        "working_time": 2.5,
        "attachments": {},
    }


def _text(words: random.Random, count: int) -> str:
    return " ".join(words.choices(_VOCABULARY, k=count))


_letters = random.Random(3)
_VOCABULARY = ["".join(_letters.choices("abcdefghijklmnopqrstuvwxyz", k=2 + place % 8)) for place in range(5_000)]
"""So many different words that texts pack as text does: to a third, roughly."""


if __name__ == "__main__":
    sys.exit(main())
