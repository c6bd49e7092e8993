"""EvalScope's prompts: the question in them is what another harness says the question is, or it is the whole prompt."""

import pytest

from shared.formats.content import content_hash
from shared.formats.evalscope_prompts import read_prompt

QUESTION = "Which tide is it?\n\nSay:\nebb or flood?"
CHOICES = ["ebb", "flood, B) at least\nso they say", "none"]
OPTIONS = "A) ebb\nB) flood, B) at least\nso they say\nC) none"
SINGLE = (
    "Answer the following multiple choice question. The entire content of your response should be of the following "
    "format: 'ANSWER: [LETTER]' (without quotes) where [LETTER] is one of A,B,C.\n\n"
)
STEPS = (
    "Answer the following multiple choice question. The last line of your response should be of the following format: "
    "'ANSWER: $LETTER' (without quotes) where LETTER is one of A,B,C. Think step by step before answering.\n\n"
)
SEVERAL = (
    "Answer the following multiple choice question where multiple answers may be correct. The entire content of your "
    "response should be of the following format: 'ANSWER: [LETTERS]' (without quotes) where [LETTERS] is one or more "
    "of A,B,C.\n\n"
)
CHINESE = (
    "回答下面的单项选择题，请选出其中的正确答案。你的回答的最后一行应该是这样的格式："
    '"答案：[LETTER]"（不带引号），其中 [LETTER] 是 A,B,C 中的一个。请在回答前进行一步步思考。\n\n'
)
EXAMPLES = (
    "Here are some examples of how to answer similar questions:\n\n"
    "Up?\nA) yes\nB) no\nC) none\nANSWER: B\n\nDown?\nA) yes\nB) no\nC) none\nANSWER: A\n\n"
)


@pytest.mark.parametrize("examples", ["", EXAMPLES])
@pytest.mark.parametrize("before", [SINGLE, STEPS, SEVERAL])
def test_a_question_with_choices(before: str, examples: str) -> None:
    assert read_prompt(f"{examples}{before}{QUESTION}\n\n{OPTIONS}") == (QUESTION, CHOICES)


def test_the_forms_of_mmlu_pro_and_of_chinese_data_sets() -> None:
    told = "The following are multiple choice questions (with answers) about tides. Think.\n\nQuestion:\nUp?\nA yes\n\n"
    assert read_prompt(f"{told}\n{STEPS}Question:\n{QUESTION}\nOptions:\n{OPTIONS}\n") == (QUESTION, CHOICES)
    assert read_prompt(f"{CHINESE}问题：{QUESTION}\n选项：\n{OPTIONS}\n") == (QUESTION, CHOICES)


BOXED = "\nPlease reason step by step, and put your final answer within \\boxed{}."
SOLVED = (
    "Here are some examples of how to solve similar problems:\n\n"
    "1 + 1?\n\nReasoning:\nCount.\n\nANSWER: \\boxed{2}\n\n2 + 2?\n\nReasoning:\n\nCount.\n\nANSWER: \\boxed{4}\n\n"
)
REMEMBER = (
    "Solve the following math problem step by step. Put your answer inside \\boxed{}.\n\n",
    "\n\nRemember to put your answer inside \\boxed{}.",
)
LINE = (
    "Solve the following math problem step by step. The last line of your response should be of the form "
    '"ANSWER: $ANSWER" (without quotes) where $ANSWER is the answer to the problem.\n\n',
    '\n\nRemember to put your answer on its own line at the end in the form "ANSWER: $ANSWER" (without quotes) where '
    "$ANSWER is the answer to the problem, and you do not need to use a \\boxed command.\n\nReasoning:\n",
)


@pytest.mark.parametrize(
    ("before", "behind"),
    [("", BOXED), (SOLVED, BOXED), REMEMBER, ("\n" + REMEMBER[0], REMEMBER[1]), LINE, (SOLVED + LINE[0], LINE[1])],
)
def test_an_open_question(before: str, behind: str) -> None:
    asked = "How high?\n\nIn\nmetres."
    assert content_hash(*read_prompt(f"{before}{asked}{behind}")) == content_hash(asked)
    assert read_prompt(f"{before}{asked}{behind}") == (asked, ())


@pytest.mark.parametrize(
    "prompt",
    [
        "When is high tide?",
        f"{SINGLE}{QUESTION}\nA) ebb\nB) flood\nC) none",  # no empty line before the choices
        f"{SINGLE}{QUESTION}\n\nA) ebb\nB) flood",  # fewer choices than letters
        f"{SINGLE}{QUESTION}\n\nA) ebb\nB) flood\nB) or so\nC) none",  # two that could be B
        f"{SINGLE}{QUESTION}\nA) really?\n\nA) ebb\nB) flood\nC) none",  # two that could be A
        f"{SINGLE}{QUESTION}\n\nA) ebb\nC) none\nB) flood",  # out of order
        f"A story of the sea.\n\n{SINGLE}{QUESTION}\n\n{OPTIONS}",  # something that is no example
        f"{SINGLE}{SINGLE}{QUESTION}\n\n{OPTIONS}",
        f"{EXAMPLES}{QUESTION}\n\n{OPTIONS}",
        f"{SOLVED.partition('ANSWER')[0]}How high?{BOXED}",  # no end of an example
        f"A story.\n\n{REMEMBER[0]}How high?{REMEMBER[1]}",
        f"How high?{REMEMBER[1]}",
        BOXED.strip(),
    ],
)
def test_a_prompt_that_is_not_exactly_of_a_known_form_is_kept_whole(prompt: str) -> None:
    assert read_prompt(prompt) == (prompt, ())
