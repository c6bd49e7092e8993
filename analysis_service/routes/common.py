"""What routes take from the application."""

from typing import Annotated, Literal

from fastapi import Depends, Query, Request

from analysis_service.reader import Reader


def _reader(request: Request) -> Reader:
    reader: Reader = request.app.state.reader
    return reader


ReaderOf = Annotated[Reader, Depends(_reader)]
Language = Annotated[Literal["en", "ko"], Query(description="Language of titles and descriptions")]
