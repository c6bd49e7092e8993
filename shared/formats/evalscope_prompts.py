"""The questions in EvalScope's prompts, without the instructions and examples that it puts around them.

EvalScope keeps prompts only. Most of its data sets are asked in a few forms that are constants in it: where a prompt is
of one of them to the letter, what stands in its places is the question and its choices, the same as with any other
harness. Where it is of none, or could be taken apart in two ways, the whole prompt is the question.
"""

import re
from collections.abc import Sequence

_PLACEHOLDER = r"(?:\[LETTERS?\]|\$?LETTERS?)"
_LETTERS = r"(?P<letters>[A-Z](?:,[A-Z])+)"
_INSTRUCTIONS = (
    re.compile(
        r"Answer the following multiple choice question(?: where multiple answers may be correct)?\. "
        r"The (?:entire content|last line) of your response should be of the following format: "
        rf"'ANSWER: {_PLACEHOLDER}' \(without quotes\) where {_PLACEHOLDER} is one (?:or more )?of {_LETTERS}\."
        r"(?: Think step by step before answering\.)?\n\n"
    ),
    re.compile(
        r"回答下面的(?:单项选择题，请选出其中的正确答案|多项选择题，请选出其中的所有正确答案)。"
        rf'你的回答的(?:全部内容|最后一行)应该是这样的格式："答案：{_PLACEHOLDER}"（不带引号），'
        rf"其中 {_PLACEHOLDER} 是 {_LETTERS} 中的一个(?:或多个)?。(?:请在回答前进行一步步思考。)?\n\n?"
    ),
)
"""What stands before a question with choices; the letters are those of its choices."""
_PLACES = (("Question:\n", "\nOptions:\n"), ("问题：", "\n选项：\n"), ("", "\n\n"))
"""What stands before such a question, and between it and its choices."""
_EXAMPLES = (
    "Here are some examples of how to answer similar questions:\n\n",
    "The following are multiple choice questions (with answers) about ",
    "以下是一些示例问题：\n\n",
)
"""How the examples before the instructions begin, where there are any."""

_OPEN = (
    ("", "\nPlease reason step by step, and put your final answer within \\boxed{}."),
    (
        "Solve the following math problem step by step. Put your answer inside \\boxed{}.\n\n",
        "\n\nRemember to put your answer inside \\boxed{}.",
    ),
    (
        "Solve the following math problem step by step. The last line of your response should be of the form "
        '"ANSWER: $ANSWER" (without quotes) where $ANSWER is the answer to the problem.\n\n',
        '\n\nRemember to put your answer on its own line at the end in the form "ANSWER: $ANSWER" (without quotes) '
        "where $ANSWER is the answer to the problem, and you do not need to use a \\boxed command.\n\nReasoning:",
    ),
)
"""What stands before and behind an open question."""
_SOLVED = "Here are some examples of how to solve similar problems:\n\n"
_END_OF_EXAMPLE = re.compile(r"\n\nANSWER: [^\n]*\n\n")


def read_prompt(prompt: str) -> tuple[str, Sequence[str]]:
    """The question in a prompt, and its choices."""
    text = prompt.strip()
    for instructions in _INSTRUCTIONS:
        found = list(instructions.finditer(text))
        if len(found) == 1 and (found[0].start() == 0 or text.startswith(_EXAMPLES)):
            return _with_choices(text[found[0].end() :], found[0]["letters"].split(",")) or (prompt, ())
    return _open_question(text) or prompt, ()


def _with_choices(text: str, letters: Sequence[str]) -> tuple[str, Sequence[str]] | None:
    """Question and choices of a text that has each choice's letter at the beginning of one line, and of no other."""
    for before, between in _PLACES:
        marks = [f"{between}{letters[0]}) ", *(f"\n{letter}) " for letter in letters[1:])]
        starts = [text.find(mark) for mark in marks]
        is_one = all(f"\n{text}".count(f"\n{letter}) ") == 1 for letter in letters)
        if text.startswith(before) and is_one and starts[0] > len(before) - 1 and starts == sorted(starts):
            ends = [*starts[1:], len(text)]
            choices = [text[at + len(mark) : end] for at, mark, end in zip(starts, marks, ends, strict=True)]
            return text[len(before) : starts[0]], choices
    return None


def _open_question(text: str) -> str | None:
    for before, behind in _OPEN:
        if not text.endswith(behind):
            continue
        question = text.removesuffix(behind)
        if before:
            examples, there, question = question.rpartition(before)
            if there and (not examples or examples.startswith(_SOLVED)):
                return question or None
        elif question.startswith(_SOLVED):
            parts = _END_OF_EXAMPLE.split(question)
            return parts[-1] if len(parts) > 1 else None
        else:
            return question or None
    return None
