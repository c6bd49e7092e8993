"""The benchmarks and models that ship, as literals for code and editors.

Requests are validated against the `Registry`, which a user's folder may extend; a test compares these with the
shipped files.
"""

from enum import StrEnum


class Benchmark(StrEnum):
    """The benchmarks that ship."""

    AIME = "aime"
    MMLU = "mmlu"
    MMLU_REDUX = "mmlu-redux"
    HLE = "hle"
    DS_MMLU = "ds-mmlu"
    MATH500 = "math500"


class Model(StrEnum):
    """The models that ship, by their canonical ids."""

    GPT_4 = "gpt-4"
    GPT_4O = "gpt-4o"
    GPT_4O_MINI = "gpt-4o-mini"
    CLAUDE_3_OPUS = "claude-3-opus"
    CLAUDE_3_5_SONNET = "claude-3.5-sonnet"
    GEMINI_2_0_FLASH = "gemini-2.0-flash"
    GEMMA_2_27B_IT = "gemma-2-27b-it"
    DEEPSEEK_V3 = "deepseek-v3"
    DEEPSEEK_R1 = "deepseek-r1"
    LLAMA_3_1_70B_INSTRUCT = "llama-3.1-70b-instruct"
    LLAMA_4_SCOUT = "llama-4-scout"
    LLAMA_4_MAVERICK = "llama-4-maverick"
    MISTRAL_LARGE_2407 = "mistral-large-2407"
    QWEN2_5_72B_INSTRUCT = "qwen2.5-72b-instruct"
    PHI_4 = "phi-4"
